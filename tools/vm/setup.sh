#!/usr/bin/env bash
# Installs what tools/vm needs besides Go and Debian's own tools: qemu for x86-64, and xz for the
# modules of 6.12. As root, on Debian; does nothing when all is there.
set -euo pipefail

packages=()
command -v qemu-system-x86_64 >/dev/null || packages+=(qemu-system-x86)
command -v xz >/dev/null || packages+=(xz-utils)

# Kernels come by apt-get download, which needs the lists too; images often ship without them.
if ((${#packages[@]})) || [[ -z $(apt-cache search --names-only '^linux-image-6\.') ]]; then
	apt-get update -qq
fi
if ((${#packages[@]})); then
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
fi
