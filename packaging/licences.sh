#!/bin/sh
# packaging/licences.sh TARGET FOLDER: what the binary is made of: THIRD-PARTY.tsv (crate, version, licence, source), and
# each crate's own licence texts as it came from the registry. Needs jq.
set -eu
export LC_ALL=C
target=$1
mkdir -p "$2"
to=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
metadata=$(mktemp)
linked=$(mktemp)
trap 'rm -f "$metadata" "$linked"' EXIT
cargo metadata --format-version 1 --locked --all-features --filter-platform "$target" >"$metadata"
# Only what is linked; what tests, benches and other members need is not in the binary.
cargo tree --locked -p sched-cli --features postgres --target "$target" -e normal,build --prefix none --format '{p}' |
    awk '{ sub(/^v/, "", $2); print $1 "\t" $2 }' | sort -u >"$linked"
jq -r '.packages[] | select(.source != null) |
    [.name, .version, (.license // "see its text"), (.repository // ""), .manifest_path] | @tsv' "$metadata" |
    sort >"$metadata.tsv"
trap 'rm -f "$metadata" "$linked" "$metadata.tsv"' EXIT
printf 'crate\tversion\tlicence\tsource\n' >"$to/THIRD-PARTY.tsv"
tab=$(printf '\t')
awk -F "$tab" 'NR == FNR { linked[$0]; next } ($1 "\t" $2) in linked' "$linked" "$metadata.tsv" |
    while IFS=$tab read -r name version licence source manifest; do
        printf '%s\t%s\t%s\t%s\n' "$name" "$version" "$licence" "$source" >>"$to/THIRD-PARTY.tsv"
        find "$(dirname "$manifest")" -maxdepth 1 -type f \
            \( -iname 'licen[sc]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'unlicense*' \) \
            -exec install -D -m 644 -t "$to/$name-$version" {} +
    done

# What is linked and not told of would be a licence broken in silence.
told=$(($(wc -l <"$to/THIRD-PARTY.tsv") - 1))
ours=$(grep -c '^sched-' "$linked")
if [ "$((told + ours))" -ne "$(wc -l <"$linked")" ]; then
    echo "licences.sh: $told crates are told of, and $(($(wc -l <"$linked") - ours)) are linked" >&2
    exit 1
fi
