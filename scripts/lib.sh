# Shared by the scripts: messages, missing packages, the podplane binary. Sourced, not run.
# shellcheck shell=bash

# ip and tcpdump live in sbin, which an ordinary user's PATH may lack; cargo may be installed but not on the PATH yet.
PATH="$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin"

say() { printf '==> %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# as_root COMMAND...: runs it as root, by sudo if needed.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# need COMMAND=PACKAGE...: installs the Debian packages of the commands that are missing, and says so.
need() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    install_packages "${missing[@]}"
}

# need_python MODULE=PACKAGE...: the same for modules of Debian's own Python, whatever other Python is on the PATH.
need_python() {
    local pair missing=()
    for pair in "$@"; do
        /usr/bin/python3 -c "import ${pair%%=*}" 2>/dev/null || missing+=("${pair#*=}")
    done
    install_packages "${missing[@]}"
}

# install_packages PACKAGE...: installs Debian packages, and says so.
install_packages() {
    local missing=("$@")
    if [ "${#missing[@]}" = 0 ]; then return; fi
    say "installing with apt: ${missing[*]}"
    command -v apt-get >/dev/null || die "no apt-get here; install these yourself: ${missing[*]}"
    as_root apt-get -qq update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# need_rust: a Rust toolchain and the linker that it calls.
need_rust() {
    command -v cargo >/dev/null || die "no Rust toolchain; see https://rustup.rs"
    need cc=gcc ar=binutils
    [ -e /usr/include/stdio.h ] || need libc-headers=libc6-dev
}

# build: builds podplane and sets PODPLANE to the binary. With PODPLANE set by the caller, that binary is used.
build() {
    if [ -n "${PODPLANE:-}" ]; then return; fi
    need_rust
    local profile=${PROFILE:-release}
    say "building podplane ($profile; the first time takes a few minutes)"
    cargo build --quiet --locked --profile "$profile" --package podplane
    PODPLANE="${CARGO_TARGET_DIR:-target}/$profile/podplane"
    [ "$profile" != dev ] || PODPLANE="${CARGO_TARGET_DIR:-target}/debug/podplane"
}
