#!/usr/bin/env python3
"""A whole deployment on one machine: a PostgreSQL cluster with PostGIS, a bucket and a share, made anew; backed up as one,
damaged in all three, restored, and every row, object and file compared. Nothing that was there before is touched.

../whole-deployment.md says what must be installed. All that is made lies below one directory, which is removed at the
end, unless --keep is given."""

import argparse
import concurrent.futures
import glob
import hashlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3  # comes with moto[server]
from botocore.config import Config

SCHEMA = """
CREATE EXTENSION postgis;
CREATE ROLE surveyor; CREATE ROLE viewer;
CREATE TABLE parcels (id bigint PRIMARY KEY, name text NOT NULL, owner text, changed timestamptz, shape geometry(Polygon, 4326));
CREATE TABLE roads (id bigint PRIMARY KEY, name text, lanes int CHECK (lanes > 0), shape geometry(LineString, 4326));
CREATE TABLE visits (parcel bigint REFERENCES parcels, at timestamptz, note text);
CREATE VIEW large AS SELECT * FROM parcels WHERE ST_Area(shape) > 0.0001;
GRANT SELECT ON parcels, roads TO viewer; ALTER TABLE visits OWNER TO surveyor;
"""
ROWS = """
SELECT setseed(0.5);
INSERT INTO parcels SELECT i, 'parcel ' || i, md5(i::text), now() - i * interval '1 minute',
  ST_Buffer(ST_SetSRID(ST_MakePoint(random() * 360 - 180, random() * 170 - 85), 4326), random() * 0.01, 8)
  FROM generate_series(1, {rows}) i;
INSERT INTO roads SELECT i, 'road ' || i, 1 + i % 4,
  ST_MakeLine(ARRAY(SELECT ST_SetSRID(ST_MakePoint(i % 180 + sin(n + i), n * 0.01), 4326) FROM generate_series(1, 20) n))
  FROM generate_series(1, {rows} / 10) i;
INSERT INTO visits SELECT 1 + i % {rows}, now(), repeat('seen ', i % 9) FROM generate_series(1, {rows} / 10) i;
CREATE INDEX ON parcels USING gist (shape); CREATE INDEX ON roads USING gist (shape); ANALYZE;
"""
DAMAGE = """
UPDATE parcels SET owner = 'nobody' WHERE id % 33 = 0; DELETE FROM visits WHERE parcel % 7 = 0; DROP TABLE roads CASCADE;
CREATE TABLE later (x int);
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(*command, **options):
    result = subprocess.run([str(word) for word in command], text=True, capture_output=True, **options)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stdout}{result.stderr}")
    return result.stdout


class Clock:
    """What took how long."""

    def __init__(self):
        self.lines = []

    def time(self, what, work):
        print(f"{what} … ", end="", flush=True)
        begun = time.monotonic()
        value = work()
        took = time.monotonic() - begun
        self.lines.append((what, took))
        print(f"{took:.1f} s")
        return value


class Databases:
    def __init__(self, home):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
        if not found:
            sys.exit("no PostgreSQL server is installed: install postgresql and postgis")
        self.bin, self.data, self.port = Path(found[-1]).parent, home / "pg" / "data", free_port()
        # The server refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else None
        self.data.mkdir(parents=True)
        if self.user:
            for path in (self.data.parent, self.data):
                os.chown(path, pwd.getpwnam(self.user).pw_uid, pwd.getpwnam(self.user).pw_gid)
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        options = f"-p {self.port} -k {self.data} -c listen_addresses=127.0.0.1 -c shared_buffers=256MB -c max_wal_size=4GB"
        self.run("pg_ctl", "-D", self.data, "-w", "-l", self.data / "log", "-o", options, "start")

    def run(self, program, *words):
        return run(self.bin / program, *words, user=self.user, cwd="/")

    def sql(self, text, database="gis"):
        return run(self.bin / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", self.port, "-U", "postgres",
                   "-d", database, input=text)

    def fill(self, rows):
        self.sql("CREATE DATABASE gis", "postgres")
        self.sql(SCHEMA)
        self.sql(ROWS.format(rows=rows))

    def picture(self):
        """The definitions as pg_dump tells them, and of each table how many rows there are and a sum over all of them."""
        tables = self.sql("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        sums = {table: self.sql(f"SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {table} t")
                for table in tables.split()}
        dump = self.run("pg_dump", "--schema-only", "-h", "127.0.0.1", "-p", self.port, "-U", "postgres", "gis")
        definitions = [line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]
        return definitions, sums

    def size(self):
        return int(self.sql("SELECT pg_database_size('gis')"))

    def stop(self):
        self.run("pg_ctl", "-D", self.data, "-m", "immediate", "stop")


class Bucket:
    KEY, SECRET, NAME = "AKIAEXAMPLEEXAMPLE00", "an example of a secret key", "uploads"

    def __init__(self):
        self.port = free_port()
        self.server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=self.KEY,
                                   aws_secret_access_key=self.SECRET, config=Config(max_pool_connections=16))
        for attempt in range(100):
            try:
                self.client.create_bucket(Bucket=self.NAME)
                return
            except Exception:
                time.sleep(0.1)
        sys.exit("the S3 server did not start: is moto[server] installed for this Python?")

    def each(self, work, things):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            return list(pool.map(work, things))

    def put(self, number, text):
        self.client.put_object(Bucket=self.NAME, Key=f"tiles/{number % 100}/{number}.bin", Body=text * (1 + number % 40),
                               ContentType="application/x-tile", Metadata={"number": str(number)})

    def fill(self, objects):
        self.each(lambda number: self.put(number, f"tile {number} ".encode() * 20), range(objects))

    def keys(self):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.NAME)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def picture(self):
        def one(key):
            got = self.client.get_object(Bucket=self.NAME, Key=key)
            return key, hashlib.sha256(got["Body"].read()).hexdigest(), got["ContentType"], got["Metadata"]
        return self.each(one, self.keys())

    def damage(self, objects):
        self.each(lambda key: self.client.delete_object(Bucket=self.NAME, Key=key), self.keys()[::10])
        self.each(lambda number: self.put(number, b"other"), range(5, objects, 10))
        self.each(lambda number: self.put(objects + number, b"new"), range(100))

    def stop(self):
        self.server.terminate()


class Share:
    def __init__(self, home):
        self.root = home / "share"

    def fill(self, files):
        for number in range(files):
            folder = self.root / f"folder {number % 200}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"file {number}").write_bytes(f"file {number} ".encode() * (1 + number % 500))

    def picture(self):
        return sorted((str(path.relative_to(self.root)), path.stat().st_mtime_ns,
                       hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
                      for path in self.root.rglob("*"))

    def damage(self):
        shutil.rmtree(self.root / "folder 7")
        for path in list((self.root / "folder 8").iterdir())[:20]:
            path.write_bytes(b"other")
        (self.root / "new").write_text("new")


# All but Strongroom's own configuration, which a running server does not replace.
CONTENT = ["--component", "gis", "--component", "uploads", "--component", "share"]


class Strongroom:
    def __init__(self, program, home, databases, bucket, share):
        self.program, self.site, self.port = program, home / "site", free_port()
        self.environment = {**os.environ, "HOME": str(home), "STRONGROOM_SERVER__LISTEN": f"127.0.0.1:{self.port}",
                            "STRONGROOM_STORES__ALLOWED_DIRECTORIES": json.dumps([str(home)]),
                            "STRONGROOM_DRILLS__DIRECTORY": str(home / "drills"),
                            "STRONGROOM_PASSCODE": "a passcode of an example"}
        (home / "drills").mkdir(mode=0o711)
        self.call("init", "--directory", self.site)
        (home / "secret").write_text(Bucket.SECRET)
        (home / "password").write_text("an example of a password")
        (home / "store").mkdir()
        with open(self.site / "strongroom.toml", "a", encoding="utf-8") as file:
            file.write(f"""
[[component]]
kind = "relationalStore"
name = "gis"
url = "postgres://postgres@127.0.0.1:{databases.port}/"
databases = ["gis"]
[[component]]
kind = "objectStore"
name = "uploads"
url = "s3://{Bucket.NAME}"
endpoint = "{bucket.url}"
access_key_id = "{Bucket.KEY}"
secret_access_key_file = "{home / 'secret'}"
[[component]]
kind = "fileStore"
name = "share"
path = "{share.root}"
[[component]]
kind = "systemConfiguration"
name = "strongroom"
""")
        config = ["--config", self.site / "strongroom.toml"]
        self.home = home
        self.call("user", "add", *config, "--username", "admin", "--role", "administrator", "--password-file", home / "password")
        self.start()
        self.call("store", "register", "main", "--location", home / "store")

    def start(self):
        home, command = self.home, [self.program, "serve", "--config", str(self.site / "strongroom.toml")]
        self.server = subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL,
                                       stderr=open(home / "log", "a", encoding="utf-8"))
        for attempt in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                time.sleep(0.1)
        self.call("login", "--server", f"https://127.0.0.1:{self.port}/strongroom", "--ca-file", self.site / "certificate.pem",
                  "--username", "admin", "--password-file", home / "password")

    def rebuild(self):
        """A new machine: nothing but the program, the store and the passcode."""
        self.stop()
        shutil.rmtree(self.site)
        (self.home / "secret").unlink()
        self.call("rescue", "rebuild", "--store", self.home / "store")
        self.start()
        # It was backed up in the midst of a backup, and goes on with that first.
        newest = json.loads(self.call("job", "list", "--json"))[0]
        subprocess.run([self.program, "job", "wait", newest["jobid"]], env=self.environment, check=False, capture_output=True)

    def call(self, *words):
        return run(self.program, *words, env=self.environment)

    def stages(self):
        """How long each stage of the last job took, in seconds."""
        newest = json.loads(self.call("job", "list", "--json"))[0]
        job = json.loads(self.call("job", "show", newest["jobid"], "--json"))
        return [(stage["name"], int(stage["duration"].split()[0]) / 1000) for stage in job["result"]["stages"]
                if stage["state"] != "skipped"]

    def stop(self):
        self.server.terminate()
        self.server.wait()


def compare(what, before, after):
    if before == after:
        return True
    print(f"DIFFERENT: {what}")
    pairs = zip(before, after) if isinstance(before, list) else []
    for one, other in [pair for pair in pairs if pair[0] != pair[1]][:3]:
        print(f"  before {one}\n  after  {other}")
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strongroom", default=shutil.which("strongroom") or "target/release/strongroom", help="the program")
    parser.add_argument("--directory", default="/tmp", help="where there is room for some gigabytes")
    parser.add_argument("--rows", type=int, default=1_500_000, help="parcels; 1,500,000 make a database of 1.2 GB")
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rebuild", action="store_true", help="lose the server too, and rebuild it from store and passcode")
    parser.add_argument("--keep", action="store_true", help="leave the directory")
    wanted = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="deployment-", dir=wanted.directory))
    home.chmod(0o711)
    clock, parts = Clock(), []
    try:
        databases = Databases(home)
        parts.append(databases)
        bucket = Bucket()
        parts.append(bucket)
        share = Share(home)
        clock.time(f"make a database of {wanted.rows:,} parcels", lambda: databases.fill(wanted.rows))
        clock.time(f"make {wanted.objects:,} objects", lambda: bucket.fill(wanted.objects))
        clock.time(f"make {wanted.files:,} files", lambda: share.fill(wanted.files))
        print(f"the database has {databases.size() / 1e9:.2f} GB")

        def look():
            definitions, sums = databases.picture()
            return [("definitions", definitions), ("rows", sums), ("objects", bucket.picture()), ("files", share.picture())]
        before = clock.time("look at every row, object and file", look)
        strongroom = Strongroom(wanted.strongroom, home, databases, bucket, share)
        parts.append(strongroom)
        clock.time("back up", lambda: strongroom.call("backup", "create", "first", "--store", "main", "--wait"))
        stages = [("backup", *stage) for stage in strongroom.stages()]
        clock.time("back up again, nothing changed", lambda: strongroom.call("backup", "create", "second", "--store", "main", "--wait"))
        stages += [("second backup", *stage) for stage in strongroom.stages()]
        told = clock.time("drill", lambda: strongroom.call("backup", "drill", "first", "--store", "main", "--wait"))
        databases.sql(DAMAGE)
        bucket.damage(wanted.objects)
        share.damage()
        clock.time("restore what was damaged", lambda: strongroom.call("backup", "restore", "first", "--store", "main", *CONTENT, "--yes", "--wait"))
        stages += [("restore", *stage) for stage in strongroom.stages()]
        after = clock.time("look again", look)
        equal = [compare(name, one, other) for (name, one), (_, other) in zip(before, after)]
        if wanted.rebuild:
            databases.sql(DAMAGE)
            bucket.damage(wanted.objects)
            share.damage()
            clock.time("lose the server, and rebuild it from store and passcode", strongroom.rebuild)
            clock.time("restore everything", lambda: strongroom.call("backup", "restore", "first", "--store", "main", *CONTENT, "--yes", "--wait"))
            after = clock.time("look once more", look)
            equal += [compare(name, one, other) for (name, one), (_, other) in zip(before, after)]
        print(strongroom.call("backup", "list", "--store", "main"))
        print(told)
        print("stage by stage:")
        for job, name, took in stages:
            print(f"  {job:14} {name:36} {took:8.2f} s")
        definitions, sums = before[0][1], before[1][1]
        rows = sum(int(told.split("|")[0]) for told in sums.values())
        print(f"{rows:,} rows in {len(sums)} tables, {len(before[2][1]):,} objects, {len(before[3][1]):,} files and folders: "
              f"{'all equal' if all(equal) else 'NOT EQUAL'}")
        return 0 if all(equal) else 1
    finally:
        for part in reversed(parts):
            part.stop()
        if wanted.keep:
            print(f"kept in {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
