"""kill -9 of a stage, of DVC, or of both, at a random moment: `dvc repro` afterwards ends where it would have ended."""

import hashlib
import random
import shutil

from benchmarks.faults.job import Job

WHOM = ("stage", "dvc", "both")
_STAGES = (  # those that take a while, of the pico job
    "zoo@residual", "activations@low", "edges@low", "assembly", "contributions@high", "components@low", "finetune@1",
    "lego",
)  # fmt: skip
_LONGEST = 8.0  # seconds after which a kill comes; less where the stage is quicker


def tried(job: Job, count: int, seed: int = 0) -> tuple[int, list[str]]:
    """How many kills there were over a finished job, and of those not healed a line each."""
    chances = random.Random(seed)
    lock, content = job.lock(), digest(job)
    wrong = []
    for i in range(count):
        stage, whom = chances.choice(_STAGES), WHOM[i % len(WHOM)]
        after = chances.uniform(1.5, _LONGEST)
        while not _killed(job, stage, after, whom):
            after *= 0.7
        fault = None
        try:
            job.repro()
        except RuntimeError as error:
            fault = " ".join(str(error).split())[:300]
        job.settle()
        if fault is None and job.lock() != lock:
            fault = "dvc.lock is another"
        if fault is None and digest(job) != content:
            fault = "artifacts have other contents"
        if fault:
            wrong.append(f"{whom} killed {after:.1f} s after the start of {stage}: {fault}")
    return count, wrong


def _killed(job: Job, stage: str, after: float, whom: str) -> bool:
    """The stage runs again, not from DVC's memory of runs, and is killed; whether it was still running."""
    shutil.rmtree(job.folder / ".dvc" / "cache" / "runs", ignore_errors=True)
    return job.repro_killed("-f", "-s", stage, after=after, whom=whom)


def digest(job: Job) -> str:
    """SHA-256 over all files of the job's artifacts, names and contents."""
    found = hashlib.sha256()
    for file in job.files:
        found.update(f"{file.relative_to(job.folder)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()
