"""The data that is backed up: five sets, each made once and kept.

A set is a directory with the generations `first`, `second` (about a quarter of it deleted or replaced) and, for the
database, `changed` (3 % of its pages replaced). Everything random comes from fixed seeds.
"""

import glob
import os
import random
import shutil
import subprocess

SETS = {
    1: "source tree",
    2: "geodata",
    3: "database cluster",
    4: "random data",
    5: "small files",
}

# Unpacked, never installed.
SOURCES = ["golang-1.19-src", "libboost1.81-dev", "linux-source-6.1"]
GEODATA = [
    "gmt-gshhg-full", "gmt-gshhg-high", "gmt-dcw",  # coast lines and countries, netCDF
    "ferret-datasets",  # ocean and climate grids, netCDF
    "libncarg-data",  # relief and shore lines
    "cdftools",  # ocean model output
    "proj-data", "gdal-data", "python-cartopy-data", "marble-data",  # grids, shape files, maps
    "r-cran-mapdata", "r-cran-maps", "octave-mapping", "libmagplus3-data", "metview-data", "navit-data",
]

MIB = 1024 * 1024
PAGE = 8192


class Missing(Exception):
    """Something that a set needs is not on this machine."""


def prepare(number, root):
    """Makes the set unless it is there; gives its directory."""
    place = os.path.join(root, f"set{number}")
    made = os.path.join(place, "made")
    generations = ["first", "second", "changed"] if number == 3 else ["first", "second"]
    if os.path.exists(made):
        # A run that was killed has left one generation at the path from which it was backed up.
        for generation in generations:
            if not os.path.isdir(os.path.join(place, generation)):
                os.rename(os.path.join(place, "now"), os.path.join(place, generation))
        return place
    shutil.rmtree(place, ignore_errors=True)
    first = os.path.join(place, "first")
    os.makedirs(first)
    print(f"making set {number}: {SETS[number]}", flush=True)
    {1: source_tree, 2: geodata, 3: cluster, 4: random_files, 5: small_files}[number](first)
    if number == 3:
        shutil.copytree(first, os.path.join(place, "changed"), symlinks=True)
        change_pages(os.path.join(place, "changed"))
    shutil.copytree(first, os.path.join(place, "second"), symlinks=True)
    change_a_quarter(os.path.join(place, "second"))
    open(made, "w").close()
    return place


def source_tree(first):
    unpack(SOURCES, first)
    # The kernel comes as an archive; a part of it is enough.
    for archive in glob.glob(f"{first}/usr/src/linux-source-*.tar.xz"):
        top = os.path.basename(archive).removesuffix(".tar.xz")
        parts = [f"{top}/{part}" for part in ("kernel", "fs", "net", "mm", "lib", "include", "arch/x86", "drivers/net")]
        subprocess.run(["tar", "-xf", archive, "-C", first, *parts], check=True)
        os.remove(archive)


def geodata(first):
    unpack(GEODATA, first)


def unpack(packages, target):
    """Downloads packages and unpacks them beside the system."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Missing("apt-get and dpkg-deb are needed to fetch packages")
    debs = f"{target}.debs"
    os.makedirs(debs, exist_ok=True)
    for package in packages:
        done = subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=", "download", package], cwd=debs,
                              stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            print(f"  without {package}: {done.stderr.strip().splitlines()[-1:]}", flush=True)
            continue
        for deb in glob.glob(f"{debs}/{package}_*.deb"):
            subprocess.run(["dpkg-deb", "--extract", deb, target], check=True)
    shutil.rmtree(debs)
    if sum(len(files) for _, _, files in os.walk(target)) == 0:
        raise Missing("no package could be downloaded")


def cluster(first):
    """A PostgreSQL cluster with pgbench's tables, stopped in order."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/pgbench"))
    if not found:
        raise Missing("PostgreSQL is not installed (Debian: postgresql-15)")
    programs = os.path.dirname(found[-1])
    as_user = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(first, "postgres", "postgres")
    state = f"{first}/cluster"

    def run(program, *arguments):
        subprocess.run([*as_user, f"{programs}/{program}", *arguments], check=True, cwd="/",
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    try:
        run("initdb", "-D", state, "-U", "postgres", "-A", "trust", "--locale=C.UTF-8", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "-D", state, "-w", "-l", f"{state}/server.log", "-o",
            f"-k {state} -c listen_addresses= -c fsync=off -c max_wal_size=256MB", "start")
        try:
            run("pgbench", "-h", state, "-U", "postgres", "-i", "-q", "-s", "36", "postgres")
            run("pgbench", "-h", state, "-U", "postgres", "-t", "2000", "-c", "2", "--random-seed=1", "postgres")
        finally:
            run("pg_ctl", "-D", state, "-w", "-m", "fast", "stop")
    except subprocess.CalledProcessError as error:
        raise Missing(f"PostgreSQL did not work: {error} (must user postgres be let into {first}?)") from error


def random_files(first):
    numbers = random.Random(4)
    for size in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233):
        with open(f"{first}/{size}.bin", "wb") as file:
            for _ in range(size):
                file.write(numbers.randbytes(MIB))


def small_files(first):
    numbers = random.Random(5)
    for folder in range(1000):
        os.mkdir(f"{first}/{folder:03}")
        for file in range(100):
            with open(f"{first}/{folder:03}/{file:02}", "wb") as out:
                out.write(numbers.randbytes(100))


def change_pages(root):
    """Replaces 3 % of all pages, at random places."""
    numbers = random.Random(3)
    for path in files_of(root):
        pages = os.path.getsize(path) // PAGE
        chosen = [page for page in range(pages) if numbers.random() < 0.03]
        if chosen:
            with open(path, "r+b") as file:
                for page in chosen:
                    file.seek(page * PAGE)
                    file.write(numbers.randbytes(PAGE))


def change_a_quarter(root):
    """A quarter of the small files goes or is replaced; of large files a quarter is replaced, in spans of 4 MiB.

    What comes instead is the old content with its byte values exchanged: new to every tool, and as compressible.
    """
    numbers = random.Random(25)
    table = list(range(256))
    numbers.shuffle(table)
    table = bytes(table)
    for path in files_of(root):
        size = os.path.getsize(path)
        if size <= 4 * MIB:
            chance = numbers.random()
            if chance < 0.1:
                os.remove(path)
            elif chance < 0.25:
                with open(path, "rb") as file:
                    content = file.read()
                with open(path, "wb") as file:
                    file.write(content.translate(table))
            continue
        with open(path, "r+b") as file:
            for start in range(0, size, 4 * MIB):
                if numbers.random() < 0.25:
                    file.seek(start)
                    span = file.read(4 * MIB)
                    file.seek(start)
                    file.write(span.translate(table))


def files_of(root):
    """Paths of the regular files, always in the same order."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


def size_of(root):
    """Count and bytes of all regular files."""
    sizes = [os.path.getsize(path) for path in files_of(root)]
    return len(sizes), sum(sizes)


def read_all(root):
    """Brings everything into the page cache."""
    for path in files_of(root):
        with open(path, "rb", buffering=0) as file:
            while file.read(MIB):
                pass
