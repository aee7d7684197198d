#!/bin/sh
# Copies the shipped encoders into the model repository, each version as a whole or not at all: it
# appears under its name by one rename. Versions that exist are left alone.
set -eu
target=${1:-/models}
for version in /shipped/*/*/; do
  path=${version#/shipped/}
  path=${path%/}
  if [ -e "$target/$path" ]; then
    continue
  fi
  mkdir -p "$target/${path%/*}"
  temporary="$target/.seed-$$"
  cp -r "$version" "$temporary"
  # Another pod may have been faster: then its copy stays.
  mv -T -n "$temporary" "$target/$path"
  rm -rf "$temporary"
  echo "copied $path"
done
