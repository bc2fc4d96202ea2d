#!/usr/bin/env python3
"""Backups over the interface, with the standard library alone: ../scripting.md says what is set and which exit codes
there are."""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

EXIT_CODES = {
    "STORE_NOT_FOUND": 10, "STORE_UNREACHABLE": 10,
    "DR_BUSY": 11, "DR_STORE_IN_USE": 11, "DR_BACKUP_IN_USE": 11, "READ_ONLY": 11,
    "DR_PASSCODE_WRONG": 12, "DR_BACKUP_NOT_RESTORABLE": 13,
}


class Failure(Exception):
    def __init__(self, exit_code, message):
        super().__init__(message)
        self.exit_code = exit_code


def secret(name):
    """What is in the file that this variable names, without the end of its line."""
    with open(os.environ[name], encoding="utf-8") as file:
        return file.read().rstrip("\n")


class Server:
    def __init__(self, base, ca_file=None):
        self.base, self.token = base, None
        self.tls = ssl.create_default_context(cafile=ca_file)

    def call(self, path, **parameters):
        """POSTs the parameters and gives the reply. Resources take POST too, so nothing stands in a URL."""
        body = urllib.parse.urlencode({"f": "json", **parameters}).encode()
        request = urllib.request.Request(self.base + urllib.parse.quote(path), data=body)
        if self.token:
            request.add_header("X-Esri-Authorization", "Bearer " + self.token)
        with urllib.request.urlopen(request, context=self.tls, timeout=300) as answer:
            reply = json.load(answer)
        # The HTTP status is 200 for errors too.
        error = reply.get("error")
        if error:
            lines = [error["messageCode"] + ": " + error["message"], *error["details"]]
            raise Failure(EXIT_CODES.get(error["messageCode"], 1), "\n".join(lines))
        return reply

    def wait(self, accepted):
        """Follows a job to its end. A server that is being restarted is waited for."""
        path, end = "/admin/jobs/" + accepted["jobid"], time.monotonic() + 120
        while True:
            try:
                job = self.call(path)
                end = time.monotonic() + 120
            except OSError:
                if time.monotonic() > end:
                    raise
                job = {"endtime": 0}
            if job["endtime"]:
                break
            time.sleep(1)
        result = job.get("result", {})
        if job["status"] == "COMPLETED" and result.get("state") == "success":
            print("done: job", job["jobid"])
        elif job["status"] == "COMPLETED":
            raise Failure(3, "\n".join(one["item"] + ": " + one["reason"] for one in result.get("warnings", [])))
        elif result.get("isReady") is False:
            raise Failure(13, "\n".join(result["details"]))
        else:
            raise Failure(1, "\n".join([job["status"], *job["messages"]]))


def main(words):
    if [words[:1], len(words)] not in (
        [["register"], 2], [["list"], 1], [["create"], 2], [["validate"], 2], [["restore"], 2], [["delete"], 2]
    ):
        raise Failure(2, "usage: backup.py register DIRECTORY | list | create|validate|restore|delete BACKUP")
    server = Server(os.environ["DR_SERVER"], os.environ.get("DR_CA_FILE"))
    if "DR_KEY_FILE" in os.environ:
        server.token = secret("DR_KEY_FILE")
    else:
        log_in = {"username": os.environ["DR_USER"], "password": secret("DR_PASSWORD_FILE")}
        server.token = server.call("/sharing/rest/generateToken", **log_in)["token"]
    stores = "/admin/system/disasterrecovery/stores"
    store = os.environ.get("DR_STORE", "main")
    backups = f"{stores}/{store}/backups"
    match words:
        case ["register", directory]:
            settings = json.dumps({"type": "FILESYSTEM", "rootDir": directory})
            reply = server.call(f"{stores}/register", storeName=store, isDefault="true", settings=settings)
            print("registered:", reply["rootDir"])
        case ["list"]:
            for backup in server.call(backups)["backups"]:
                print(backup["backupName"], backup["status"], backup["filesTotal"], backup["bytesAdded"], sep="\t")
        case ["create", name]:
            days = os.environ.get("DR_KEEP_DAYS", "30")
            passcode = secret("DR_PASSCODE_FILE")
            server.wait(server.call(f"{backups}/create", name=name, retentionDays=days, passcode=passcode))
        case ["validate", name]:
            passcode = secret("DR_PASSCODE_FILE")
            server.wait(server.call(f"{backups}/{name}/validate", readData="true", passcode=passcode))
        case ["restore", name]:
            server.wait(server.call(f"{backups}/{name}/restore", passcode=secret("DR_PASSCODE_FILE")))
        case ["delete", name]:
            print(server.call(f"{backups}/{name}/delete")["status"])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Failure as failure:
        print(failure, file=sys.stderr)
        sys.exit(failure.exit_code)
    except KeyError as missing:
        print("not set:", missing, file=sys.stderr)
        sys.exit(2)
    except (OSError, ValueError) as error:
        print("no answer that can be used:", error, file=sys.stderr)
        sys.exit(1)
