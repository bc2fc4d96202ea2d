"""The tools: how each is found and what it is told, with its own defaults.

A verb is a list of commands; what they take is added up. `place` is a directory of the tool's own: its repository, its
cache, its restored files.
"""

import os
import shutil
import subprocess


class Tool:
    """One program. Subclasses give the commands of each verb."""

    def __init__(self, name, program):
        self.name = name
        self.program = program

    def version(self):
        said = subprocess.run([self.program, *self.version_words], capture_output=True, text=True, check=True)
        return " ".join(said.stdout.split()[:2])

    version_words = ["version"]

    def environment(self, place):
        """Caches stay inside `place`, passcodes come from a file or the environment."""
        return {
            **os.environ,
            "NO_COLOR": "1",
            "HOME": place,
            "XDG_CACHE_HOME": f"{place}/cache",
            "XDG_CONFIG_HOME": f"{place}/config",
            "RESTIC_PASSWORD_FILE": f"{place}/passcode",
            "RUSTIC_PASSWORD_FILE": f"{place}/passcode",
            "BORG_PASSPHRASE": "a passcode for measuring",
            "BORG_BASE_DIR": place,
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }


class Strongroom(Tool):
    """Our own."""

    def init(self, place):
        return [self.repo(place, "init")]

    def backup(self, place, data):
        return [self.repo(place, "backup", data)]

    def check(self, place):
        return [self.repo(place, "check", "--read-data")]

    def restore(self, place, target):
        return [self.repo(place, "restore", "latest", "--target", target)]

    def prune(self, place):
        return [self.repo(place, "forget", "--keep-last", "1"), self.repo(place, "prune")]

    def repo(self, place, *words):
        return [self.program, "repo", "--repository", f"{place}/repository", "--passcode-file", f"{place}/passcode",
                *words]


class Restic(Tool):
    """Any restic."""

    def init(self, place):
        return [self.repo(place, "init")]

    def backup(self, place, data):
        return [self.repo(place, "backup", data)]

    def check(self, place):
        return [self.repo(place, "check", "--read-data")]

    def restore(self, place, target):
        return [self.repo(place, "restore", "latest", "--target", target)]

    def prune(self, place):
        return [self.repo(place, "forget", "--keep-last", "1"), self.repo(place, "prune")]

    def repo(self, place, *words):
        return [self.program, "--quiet", "--repo", f"{place}/repository", *words]


class Rustic(Tool):
    """rustic. Its prune would leave packs for a day; here it removes them at once, as the others do."""

    version_words = ["--version"]

    def init(self, place):
        return [self.repo(place, "init")]

    def backup(self, place, data):
        return [self.repo(place, "backup", data)]

    def check(self, place):
        return [self.repo(place, "check", "--read-data")]

    def restore(self, place, target):
        return [self.repo(place, "restore", "latest", target)]

    def prune(self, place):
        return [self.repo(place, "forget", "--keep-last", "1"), self.repo(place, "prune", "--instant-delete")]

    def repo(self, place, *words):
        return [self.program, "--no-progress", "--log-level", "warn", "--repository", f"{place}/repository", *words]


class Borg(Tool):
    """borg. It compresses with lz4 unless told otherwise."""

    version_words = ["--version"]

    def __init__(self, name, program):
        super().__init__(name, program)
        self.archives = 0

    def init(self, place):
        return [[self.program, "init", "--encryption", "repokey", f"{place}/repository"]]

    def backup(self, place, data):
        self.archives += 1
        return [[self.program, "create", f"{place}/repository::a{self.archives}", data]]

    def check(self, place):
        return [[self.program, "check", "--verify-data", f"{place}/repository"]]

    def restore(self, place, target):
        # borg extracts into the working directory.
        return [["env", "-C", target, self.program, "extract", f"{place}/repository::a{self.archives}"]]

    def prune(self, place):
        return [[self.program, "prune", "--keep-last", "1", f"{place}/repository"],
                [self.program, "compact", f"{place}/repository"]]


def find(root, work):
    """The tools of this machine, and a line for each that is missing."""
    script = os.path.join(root, "scripts", "fetch-new-restic")
    found, absent = [], []

    def add(kind, name, program, how):
        path = program and shutil.which(program)
        if path:
            found.append(kind(name, os.path.abspath(path)))
        else:
            absent.append(f"{name} is not there, skipped ({how})")

    ours = os.environ.get("STRONGROOM", os.path.join(root, "target", "release", "strongroom"))
    add(Strongroom, "strongroom", ours, "cargo build --release --package strongroom, or set STRONGROOM")
    add(Restic, "restic", "restic", "Debian: restic")
    newer = os.environ.get("STRONGROOM_TEST_RESTIC_NEW")
    if not newer:
        fetched = subprocess.run([script, os.path.join(work, "new-restic")], stdout=subprocess.PIPE, text=True)
        newer = fetched.stdout.strip() if fetched.returncode == 0 else None
    add(Restic, "restic-new", newer, "scripts/fetch-new-restic failed; or set STRONGROOM_TEST_RESTIC_NEW")
    add(Rustic, "rustic", os.environ.get("RUSTIC", "rustic"), "cargo install rustic-rs, or set RUSTIC")
    add(Borg, "borg", "borg", "Debian: borgbackup")
    return found, absent
