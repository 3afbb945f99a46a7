#!/usr/bin/env bash
# Puts a Rust compiler with a standard library for aarch64 under target/aarch64-std, for `cargo xtask check-aarch64`.
#
# rustup has no such library here, Debian has: rustc-web, which only works with its own libraries. The packages are
# downloaded with an apt configuration of their own and unpacked, not installed: the system's package lists, its
# architectures and its compiler stay as they are. 126 MB to download, 560 MB on disk. Says nothing if it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=bookworm-security
repository=http://deb.debian.org/debian-security

target=$PWD/target/aarch64-std
if [ -e "$target/complete" ]; then exit 0; fi
rm -rf "$target"
mkdir -p "$target"/{root,debs,apt/lists/partial,apt/cache/archives/partial}
touch "$target/apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $repository $suite main" >"$target/apt/sources.list"
cat >"$target/apt/apt.conf" <<END
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "$(id -un)";
Dir::State::Lists "$target/apt/lists";
Dir::State::status "$target/apt/status";
Dir::Cache "$target/apt/cache";
Dir::Etc::SourceList "$target/apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Acquire::Retries "3";
END
export APT_CONFIG=$target/apt/apt.conf

# The one package that $1 depends on whose name starts with $2: names that carry a version.
# awk reads to the end, or apt-cache would die of a closed pipe.
versioned() {
    apt-cache depends "$1" | awk -v prefix="$2" '$1 == "Depends:" && index($2, prefix) == 1 && !n++ { print $2 }'
}

apt-get update -q </dev/null
library=$(versioned libstd-rust-web-dev libstd-rust-web-)
llvm=$(versioned "$library" libllvm)
packages=(rustc-web:amd64 libstd-rust-web-dev:amd64 libstd-rust-web-dev:arm64 "$library:amd64" "$llvm:amd64")
(cd "$target/debs" && apt-get download -q "${packages[@]}" </dev/null)
for package in "$target"/debs/*.deb; do
    dpkg-deb --extract "$package" "$target/root"
done
rm -rf "$target/debs" "$target/apt"
LD_LIBRARY_PATH=$target/root/usr/lib/x86_64-linux-gnu "$target/root/usr/bin/rustc" --version
touch "$target/complete"
