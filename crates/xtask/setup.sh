#!/bin/sh
# Installs missing test requirements: software GPU drivers, a dataset, MPI.
#
#   setup.sh adapters FOLDER   sets up GPU adapters and prints NAME=VALUE lines, the variables that the tests need to
#                              find them; FOLDER keeps an unpacked driver and the list of steps that failed
#   setup.sh mpi FOLDER        installs MPI; prints nothing
#   setup.sh source FOLDER FILE SUITE REPLACEMENT   prints the apt source that would be added
#
# Packages are installed only on Debian, as root, and without WGRAD_NO_INSTALL. Otherwise the script uses the
# installed adapters and prints how to install more. Messages go to stderr. Completed steps do not call apt.
set -eu

# The Vulkan loader, and vulkaninfo, which lists adapters.
loader="libvulkan1 vulkan-tools"
# Software Vulkan (lavapipe) and software GL through EGL, both on Mesa's llvmpipe.
mesa="mesa-vulkan-drivers libgl1-mesa-dri libegl-mesa0 libegl1 libgles2"
# Oldest major version that is used without a warning. Mesa 22's llvmpipe silently ends an invocation after 65,535 loop
# iterations, and is five times slower.
good_mesa=25
# The MPI library, mpirun, libclang for generating the bindings, and the tools used by tests/hosts.sh.
mpi="libopenmpi-dev openmpi-bin libclang-dev clang iproute2"

task=$1
folder=$(mkdir -p "$2" && cd "$2" && pwd)
failed=$folder/failed.txt
log=$folder/apt.log
required=${WGRAD_REQUIRE_GPU:-0}

say() { echo "xtask: $*" >&2; }

release() { # release KEY: one value of os-release(5)
    sh -c '. /etc/os-release 2>/dev/null || . /usr/lib/os-release; eval "echo \"\${$0:-}\""' "$1" 2>/dev/null || true
}

may_install() { [ -z "${WGRAD_NO_INSTALL+set}" ] && [ "$(release ID)" = debian ] && [ "$(id -u)" = 0 ]; }

# Runs a step and records a failure. A machine without a network would otherwise wait for apt in every test run.
# If an adapter is required (in CI), failed steps are tried again.
attempt() { # attempt NAME COMMAND…
    step=$1
    shift
    if [ "$required" != 1 ] && grep -qsx "$step" "$failed"; then return; fi
    "$@" || { say "cannot set up $step; delete $failed to try again"; echo "$step" >>"$failed"; }
}

version_of() { # version_of PACKAGE: prints the installed version; empty if the package is not installed
    dpkg-query --show --showformat='${db:Status-Status} ${Version}' "$1" 2>/dev/null | sed -n 's/^installed //p'
}

missing() { for package; do [ -n "$(version_of "$package")" ] || echo "$package"; done; }

# `apt-get ARGS` without prompts and with timeouts; the end of the output is printed on failure. apt's sandbox user may not
# be able to write into the download folder, so downloads run as root.
apt_get() {
    DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q "$@" -o DPkg::Lock::Timeout=120 -o Acquire::Retries=2 \
        -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 -o APT::Update::Error-Mode=any \
        -o APT::Sandbox::User=root >"$log" 2>&1 </dev/null || { tail -n 8 "$log" >&2; return 1; }
}

updated=no
update_once() { # A source that does not respond may not be needed.
    [ $updated = yes ] || apt_get update || say "apt-get update failed; continuing with the existing package lists"
    updated=yes
}

install() { # install PACKAGE… [--target-release SUITE]
    update_once
    say "installing $*"
    apt_get install --yes --no-install-recommends "$@"
}

install_missing() { # install_missing PACKAGE…
    # shellcheck disable=SC2046 # one word per package
    [ -z "$(missing "$@")" ] || install $(missing "$@")
}

# Prints the first enabled apt source for SUITE, with the suite name replaced. Mirror, options and key stay unchanged.
# The first case parses the deb822 format (*.sources), the second the format with one line per source (*.list).
source_for() { # source_for FILE SUITE REPLACEMENT
    [ -f "$1" ] || return 0
    case $1 in
    *.sources)
        grep -v '^#' "$1" | awk -v suite="$2" -v replacement="$3" -v RS= -F '\n' '{
            binary = found = disabled = 0; text = ""
            for (i = 1; i <= NF; i++) {
                line = $i
                if (line ~ /^Enabled:[ \t]*no/) disabled = 1
                if (line ~ /^Types:/ && (line " ") ~ /[ \t:]deb[ \t]/) { binary = 1; line = "Types: deb" }
                if (line ~ /^Suites:/ && index(line " ", " " suite " ")) { found = 1; line = "Suites: " replacement }
                text = text line "\n"
            }
            if (binary && found && !disabled) { printf "%s", text; exit }
        }'
        ;;
    *.list)
        blank='[[:space:]]'
        sed -n "s/^$blank*deb$blank*\(\[[^]]*\]\)*$blank$blank*\([^[:space:]]*\)$blank$blank*$2$blank$blank*\([^#]*\).*/deb \1 \2 $3 \3/p" \
            "$1" | head -n 1
        ;;
    esac
}

add_backports() { # add_backports CODENAME: adds the source of the backports suite if it is missing
    added=
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
        [ -z "$(source_for "$file" "$1-backports" x)" ] || return 0
        text=$(source_for "$file" "$1" "$1-backports")
        [ -z "$text" ] || { derived=$text; added=/etc/apt/sources.list.d/$1-backports.${file##*.}; }
    done
    [ -n "$added" ] || { say "no apt source is configured for $1: cannot derive a source for $1-backports"; return 1; }
    say "adding the apt source $1-backports"
    echo "$derived" >"$added" && updated=no
}

mesa_from_backports() {
    version=$(version_of mesa-vulkan-drivers)
    # shellcheck disable=SC2086 # lists of packages
    if dpkg --compare-versions "$version" ge $good_mesa && [ -z "$(missing $mesa)" ]; then return; fi
    update_once
    [ -n "$version" ] || version=$(LC_ALL=C apt-cache policy mesa-vulkan-drivers | sed -n 's/^ *Candidate: //p')
    # All Mesa packages must have the same version: if some come from backports, the others must as well.
    case $version in
    *~bpo*) ;;
    [0-9]*) if dpkg --compare-versions "$version" ge $good_mesa; then return; fi ;;
    esac
    codename=$(release VERSION_CODENAME)
    add_backports "$codename" || return 1
    # A suite that does not exist would fail every later `apt-get update` of this machine.
    # shellcheck disable=SC2086
    install $mesa --target-release "$codename-backports" || { rm -f $added; return 1; }
}

# SwiftShader, a second software Vulkan driver: one library from Debian's chromium-common. The browser is not installed.
swiftshader() {
    [ ! -f "$folder/libvk_swiftshader.so" ] || return 0
    update_once
    say "fetching chromium-common (one library is unpacked under $folder, nothing is installed)"
    scratch=$folder/unpack-$$
    # The final rename is atomic: other processes see the complete library or none.
    mkdir -p "$scratch" && (cd "$scratch" && apt_get download chromium-common && dpkg-deb -x ./*.deb .) &&
        mv "$scratch/usr/lib/chromium/libvk_swiftshader.so" "$folder/" || { rm -rf "$scratch"; return 1; }
    rm -rf "$scratch"
}

has_hardware() { vulkaninfo --summary 2>/dev/null | grep 'deviceType *=' | grep -qv _TYPE_CPU; }

how_to_get_adapters() {
    case " $(release ID) $(release ID_LIKE) " in
    *" debian "* | *" ubuntu "*) echo "apt-get install $loader $mesa" ;;
    *" fedora "* | *" rhel "*) echo "dnf install mesa-vulkan-drivers vulkan-loader vulkan-tools mesa-libEGL mesa-libGLES" ;;
    *" arch "*) echo "pacman -S vulkan-swrast vulkan-icd-loader vulkan-tools mesa" ;;
    *" suse "*) echo "zypper install libvulkan_lvp vulkan-tools libvulkan1 Mesa-libEGL1" ;;
    *) echo "install Mesa's Vulkan drivers, the Vulkan loader and vulkan-tools" ;;
    esac
}

set_up_adapters() {
    if [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]; then # otherwise the user has selected the drivers
        # shellcheck disable=SC2086
        if may_install; then
            attempt "the Vulkan loader" install_missing $loader
            attempt "Fashion-MNIST" install_missing dataset-fashion-mnist
            if ! has_hardware; then
                attempt "Mesa from backports" mesa_from_backports
                attempt "Mesa" install_missing $mesa
                dpkg --compare-versions "$(version_of mesa-vulkan-drivers)" ge $good_mesa ||
                    say "Mesa is older than $good_mesa: its llvmpipe is slow and ends long loops early"
                attempt "SwiftShader" swiftshader
            fi
        fi
        # The loader finds lavapipe, but not the unpacked SwiftShader library.
        if [ -f "$folder/libvk_swiftshader.so" ] && ! has_hardware; then
            manifest=$folder/swiftshader_icd.json
            printf '{ "file_format_version": "1.0.0", "ICD": { "library_path": "%s", "api_version": "1.1.0" } }\n' \
                "$folder/libvk_swiftshader.so" >"$manifest"
            drivers=$(ls /usr/share/vulkan/icd.d/lvp_icd.*json /usr/local/share/vulkan/icd.d/lvp_icd.*json \
                /etc/vulkan/icd.d/lvp_icd.*json 2>/dev/null | tr '\n' ':')$manifest
            # Older loaders support only the second variable.
            export VK_DRIVER_FILES="$drivers" VK_ICD_FILENAMES="$drivers"
            printf '%s\n' "VK_DRIVER_FILES=$drivers" "VK_ICD_FILENAMES=$drivers"
        fi
    fi
    found=$(vulkaninfo --summary 2>/dev/null | sed -n 's/^[[:space:]]*deviceName *= *//p' | paste -sd ';')
    if [ -n "$found" ]; then
        say "Vulkan adapters: $found"
        return
    fi
    say "no Vulkan adapter was found (by vulkaninfo); to get software adapters: $(how_to_get_adapters)"
    [ "$required" != 1 ] || { say "WGRAD_REQUIRE_GPU=1 requires an adapter"; exit 1; }
    say "tests that need a missing adapter are skipped, and listed at the end"
}

case $task in
adapters) set_up_adapters ;;
# shellcheck disable=SC2086
mpi) if may_install; then attempt "MPI" install_missing $mpi; fi ;;
source) source_for "$3" "$4" "$5" ;;
*) say "setup.sh: unknown task $task" && exit 2 ;;
esac
