#!/bin/sh
# Builds sched-VERSION-TARGET.tar.gz, the same bytes from the same sources: docs/packaging.md.
#   packaging/tarball.sh [OUT]      OUT is a folder, target/dist unless named
# SCHED_BINARY=FILE packs a binary that is there already.
set -eu
export LC_ALL=C TZ=UTC
umask 022
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
mkdir -p "${1:-target/dist}"
out=$(cd "${1:-target/dist}" && pwd)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
target=${TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
# The time of every file: that of the last commit, unless it is given.
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
export SOURCE_DATE_EPOCH

if [ -n "${SCHED_BINARY:-}" ]; then
    binary=$SCHED_BINARY
else
    # No path of this machine goes into the binary, from Rust or from C.
    maps="--remap-path-prefix=$root=/sched --remap-path-prefix=$cargo_home=/cargo"
    CFLAGS="${CFLAGS:-} -ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$root=/sched" \
        RUSTFLAGS="${RUSTFLAGS:-} $maps" CARGO_INCREMENTAL=0 \
        cargo build --release --locked -p sched-cli --features postgres --target "$target"
    binary=${CARGO_TARGET_DIR:-target}/$target/release/sched
fi

name=sched-$version-$target
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
to=$work/$name
mkdir -p "$to/completions" "$to/man" "$to/licences"
cp "$binary" "$to/sched"
chmod 755 "$to/sched"
for shell in bash elvish fish powershell zsh; do
    "$to/sched" completions "$shell" >"$to/completions/sched.$shell"
done
"$to/sched" -q man --out "$to/man"
cp packaging/sched.service packaging/logrotate.conf sched-cli/src/commands/init.toml "$to/"
mv "$to/init.toml" "$to/sched.toml.example"
cp README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$to/"
packaging/licences.sh "$target" "$to/licences"
(cd "$to" && find . -type f ! -name SHA256SUMS | sort | xargs -d '\n' sha256sum >SHA256SUMS)

tar --create --directory "$work" --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 \
    --numeric-owner "$name" | gzip --no-name -9 >"$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256")
