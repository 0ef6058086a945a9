"""A package of its own, so that no installed one of this name (torch-fidelity brings one) is taken for it."""
