"""`hydra/launcher=sequential`: jobs of a sweep one after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hydra.core.utils import JobReturn

from skinaug.errors import plural
from skinaug.launch.jobs import Job, SweepLauncher


class SequentialLauncher(SweepLauncher):
    """Jobs in the order of the sweep. What they print goes to the terminal, each below a line that tells which one it is."""

    has_logs = False

    def run(self, jobs: list[Job], tell: Callable[[str], None]) -> Iterator[tuple[Job, JobReturn]]:
        left = self.planned(jobs)
        for count, job in enumerate(jobs, 1):
            tell(f"job {job.number}: {self.apart[job.number]}")
            yield job, job()
            if told := left.after(count):
                tell(f"{count} of {plural(len(jobs), 'job')} {'is' if count == 1 else 'are'} done: {told}")
