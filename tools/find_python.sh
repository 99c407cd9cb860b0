#!/bin/sh
# Prints the first Python that is new enough; PYTHON=/path/to/python names one.
set -eu

seen=""
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    # Asked for its version and not only looked for: a version manager leaves names behind that lead nowhere.
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        if ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            seen="$seen $candidate ($version, without venv)"
            continue
        fi
        echo "$candidate"
        exit 0
    fi
    seen="$seen $candidate ($version)"
done

{
    echo "compose-vlp needs Python 3.11 or newer with venv; found:${seen:- none}."
    echo "Install one (Debian and Ubuntu: python3 and python3-venv), or name it: make PYTHON=/path/to/python3.11 setup"
} >&2
exit 1
