#!/bin/sh
# Copies the shipped encoders into the model repository: each version appears whole, under its name, by
# one rename. Many of these may run at once on one volume (an init container of every pod): whoever is
# later finds the version there and ends well. A version of ours that a cut-off copy has left broken is
# repaired; what somebody else has published under its name is left alone.
#   seed-models [TARGET [SOURCE]]
set -eu
target=${1:-/models}
shipped=${2:-/shipped}

# Not by $$: that is 1 in every container, and they share the volume.
staging=$(mktemp -d "$target/.seed.XXXXXXXX")
trap 'rm -rf "$staging"' EXIT
trap 'exit 143' TERM INT HUP

# Where replicas mark what they have warm: ours, so that they may write it.
mkdir -p "$target/.ready"

say() { echo "seed-models: $*"; }

# whole VERSION DIRECTORY: the directory holds exactly what we ship.
whole() {
  cmp -s "$1/manifest.json" "$2/manifest.json" && cmp -s "$1/model.onnx" "$2/model.onnx"
}

# begun FILE COPY: the copy is missing, or a beginning of the file (a copy that was cut off).
begun() {
  [ ! -e "$2" ] || cmp -s -n "$(stat -c %s "$2")" "$1" "$2"
}

# ours VERSION DIRECTORY: what is there can only be a broken copy of what we ship.
ours() {
  begun "$1/manifest.json" "$2/manifest.json" &&
    { cmp -s "$1/manifest.json" "$2/manifest.json" || begun "$1/model.onnx" "$2/model.onnx"; }
}

# put VERSION PATH: 0 where the version is there and whole afterwards.
put() {
  rm -rf "$staging/copy"
  cp -R "$1" "$staging/copy"
  chmod -R a+rX "$staging/copy"
  # After a node's crash, a rename without this may show empty files.
  sync "$staging/copy/manifest.json" "$staging/copy/model.onnx"
  mv -T -n "$staging/copy" "$target/$2" 2>/dev/null || true
  whole "$1" "$target/$2"
}

# Leftovers of copies that were killed, ours of an hour ago and those of version 0.1.0.
find "$target" -mindepth 1 -maxdepth 1 -name '.seed*' -mmin +60 -exec rm -rf {} + 2>/dev/null || true

for version in "$shipped"/*/*/; do
  version=${version%/}
  path=${version#"$shipped"/}
  attempts=0
  while ! whole "$version" "$target/$path"; do
    attempts=$((attempts + 1))
    if [ "$attempts" -gt 10 ]; then
      say "$path cannot be made whole: see the messages above" >&2
      exit 1
    fi
    mkdir -p "$target/${path%/*}"
    if [ -e "$target/$path" ]; then
      if ! ours "$version" "$target/$path"; then
        say "$path is not what we ship: left as it is"
        break
      fi
      # Another container may do the same: one rename wins, and the loop looks again.
      mv -T "$target/$path" "$staging/broken.$attempts" 2>/dev/null || true
      say "$path was broken: copied again"
    fi
    if put "$version" "$path"; then
      say "copied $path"
    fi
  done
  # A directory that a lost race of version 0.1.0 has nested in the version.
  nested="$target/$path/${path##*/}"
  if [ -d "$nested" ] && whole "$version" "$target/$path"; then
    rm -rf "$nested"
    say "$path: removed a copy inside of it"
  fi
done
