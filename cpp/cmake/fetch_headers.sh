#!/bin/sh
# Downloads the headers that the library is compiled with, into a local folder. Nothing on the system changes.
#
#   fetch_headers.sh FOLDER
#
# For Debian and Ubuntu, without root. It uses the package sources of this machine. Elsewhere install the headers of
# ONNX Runtime, nlohmann-json and doctest, and CMake finds them.
set -eu
folder=${1:?usage: fetch_headers.sh FOLDER}
# The first release of each distribution that has a package with the headers of ONNX Runtime.
debian_release=trixie ubuntu_release=plucky
packages="nlohmann-json3-dev doctest-dev libonnxruntime-dev"

if [ -f "$folder/complete" ] && [ "$(cat "$folder/complete")" = "$packages" ] && [ -d "$folder/licences" ]; then
    exit 0
fi
for tool in apt-get dpkg-deb; do
    command -v "$tool" > /dev/null || {
        echo "fetch_headers.sh needs $tool; install the headers of ONNX Runtime and nlohmann-json yourself, and give" \
            "their folders to cmake: -DPARAEXPORT_ONNXRUNTIME_INCLUDE=FOLDER -DPARAEXPORT_JSON_INCLUDE=FOLDER" >&2
        exit 3
    }
done
distribution=$(. /etc/os-release && echo "$ID ${ID_LIKE:-}")
case "$distribution" in
    *ubuntu*) release=$ubuntu_release keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg ;;
    *) release=$debian_release keyring=/usr/share/keyrings/debian-archive-keyring.gpg ;;
esac
release=${PARAEXPORT_HEADER_RELEASE:-$release}
# The main source of this machine, whatever file names it.
own=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
source=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' | sed -n "s/^$own //p" | head -n 1)
[ -n "$source" ] || {
    echo "fetch_headers.sh finds no package source for the release '$own' on this machine" >&2
    exit 3
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/etc" "$work/state/lists/partial" "$work/cache/archives/partial" "$folder"
echo "deb [signed-by=$keyring] $source $release main$(case "$distribution" in *ubuntu*) echo ' universe' ;; esac)" > "$work/etc/sources.list"
cat > "$work/apt.conf" << END
Dir::State "$work/state";
Dir::Cache "$work/cache";
Dir::Etc::sourcelist "$work/etc/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::status "/var/lib/dpkg/status";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
END
APT_CONFIG="$work/apt.conf"
export APT_CONFIG
apt-get -qq update
(cd "$work" && apt-get -qq download $packages)
for package in "$work"/*.deb; do
    dpkg-deb -x "$package" "$work/root"
done
rm -rf "$folder/include" "$folder/licences"
cp -R "$work/root/usr/include" "$folder/include"
mkdir "$folder/licences"
for package in $packages; do
    mkdir "$folder/licences/$package"
    cp "$work/root/usr/share/doc/$package/copyright" "$folder/licences/$package"
done
echo "$packages" > "$folder/complete"
echo "the headers are in $folder/include"
