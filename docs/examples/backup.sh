#!/usr/bin/env bash
# Backups over the interface with curl and jq: ../scripting.md says what is set and which exit codes there are.
set -euo pipefail
shopt -s inherit_errexit

fail() {
    echo "$2" >&2
    exit "$1"
}

base=${DR_SERVER:-} store=${DR_STORE:-main} passcode=${DR_PASSCODE_FILE:-} token=
[ -n "$base" ] || fail 2 'set DR_SERVER=https://HOST:PORT/CONTEXT'
stores=$base/admin/system/disasterrecovery/stores
case "${1:-} $#" in
'register 2' | 'list 1' | 'delete 2') ;;
'create 2' | 'validate 2' | 'restore 2') [ -r "$passcode" ] || fail 2 'set DR_PASSCODE_FILE to a file that can be read' ;;
*) fail 2 'usage: backup.sh register DIRECTORY | list | create|validate|restore|delete BACKUP' ;;
esac

# Asks for the URL $1 with what follows as curl takes it, and prints the reply. The token goes through a file
# descriptor, since arguments can be seen by every user of the machine.
call() {
    local url=$1 reply code
    shift
    reply=$(curl --silent --show-error --max-time 300 ${DR_CA_FILE:+--cacert "$DR_CA_FILE"} \
        --config <([ -z "$token" ] || printf 'header = "X-Esri-Authorization: Bearer %s"\n' "$token") \
        --data f=json "$@" "$url") || fail 1 "no answer from $url"
    # The HTTP status is 200 for errors too.
    code=$(jq -r '.error.messageCode // empty' <<< "$reply") || fail 1 "no JSON from $url"
    case $code in
    '') printf '%s\n' "$reply" && return ;;
    STORE_NOT_FOUND | STORE_UNREACHABLE) set -- 10 ;;
    DR_BUSY | DR_STORE_IN_USE | DR_BACKUP_IN_USE | READ_ONLY) set -- 11 ;;
    DR_PASSCODE_WRONG) set -- 12 ;;
    DR_BACKUP_NOT_RESTORABLE) set -- 13 ;;
    *) set -- 1 ;;
    esac
    fail "$1" "$(jq -r '.error | .messageCode + ": " + .message, .details[]' <<< "$reply")"
}

# A parameter from a file, without the end of its line. To be read from the descriptor that stands for it.
secret() {
    tr -d '\n' < "$1"
}

# A name as it stands in a URL.
part() {
    jq -rn --arg name "$1" '$name | @uri'
}

# Follows the job of the reply $1 to its end. A server that is being restarted is waited for.
wait_for() {
    local id job
    id=$(jq -r .jobid <<< "$1")
    while true; do
        job=$(call "$base/admin/jobs/$id" --retry 60 --retry-delay 2 --retry-connrefused)
        [ "$(jq .endtime <<< "$job")" = 0 ] || break
        sleep 1
    done
    case $(jq -r '.status + " " + (.result.state // "")' <<< "$job") in
    'COMPLETED success') echo "done: job $id" ;;
    COMPLETED*) fail 3 "$(jq -r '.result.warnings[]? | .item + ": " + .reason' <<< "$job")" ;;
    *) case $(jq .result.isReady <<< "$job") in
        false) fail 13 "$(jq -r '.result.details[]' <<< "$job")" ;;
        *) fail 1 "$(jq -r '.status, .messages[]' <<< "$job")" ;;
        esac ;;
    esac
}

if [ -n "${DR_KEY_FILE:-}" ]; then
    token=$(secret "$DR_KEY_FILE")
else
    [ -n "${DR_USER:-}" ] && [ -r "${DR_PASSWORD_FILE:-}" ] || fail 2 'set DR_KEY_FILE, or DR_USER and DR_PASSWORD_FILE'
    reply=$(call "$base/sharing/rest/generateToken" --data-urlencode "username=$DR_USER" \
        --data-urlencode password@<(secret "$DR_PASSWORD_FILE"))
    token=$(jq -r .token <<< "$reply")
fi

backups=$stores/$(part "$store")/backups
case $1 in
register)
    call "$stores/register" --data-urlencode "storeName=$store" --data isDefault=true --data-urlencode \
        "settings=$(jq -cn --arg place "$2" '{type: "FILESYSTEM", rootDir: $place}')" | jq -r '"registered: " + .rootDir'
    ;;
create)
    reply=$(call "$backups/create" --data-urlencode "name=$2" --data retentionDays="${DR_KEEP_DAYS:-30}" \
        --data-urlencode passcode@<(secret "$passcode"))
    wait_for "$reply"
    ;;
list) call "$backups" | jq -r '.backups[] | [.backupName, .status, .filesTotal, .bytesAdded] | @tsv' ;;
validate)
    reply=$(call "$backups/$(part "$2")/validate" --data readData=true --data-urlencode passcode@<(secret "$passcode"))
    wait_for "$reply"
    ;;
restore)
    reply=$(call "$backups/$(part "$2")/restore" --data-urlencode passcode@<(secret "$passcode"))
    wait_for "$reply"
    ;;
delete) call "$backups/$(part "$2")/delete" | jq -r .status ;;
esac
