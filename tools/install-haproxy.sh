#!/usr/bin/env bash
# Installs HAProxy, which the tests compare directors with. As root, on Debian; does nothing when it is
# there. Its service is not started.
set -euo pipefail

command -v haproxy >/dev/null && exit 0
if [[ $EUID -ne 0 ]]; then
	echo "install-haproxy: run as root, or install haproxy yourself" >&2
	exit 1
fi
if [[ -z $(apt-cache madison haproxy 2>/dev/null) ]]; then
	apt-get update -qq
fi
RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends haproxy >/dev/null
