//! The GPU adapters that tests run on: those of the machine where it has a GPU, else software ones, which are
//! installed where that can be done unasked (Debian, as root). Ends in variables for the child processes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{self, Apt};
use crate::failures::Failures;
use crate::host::{Host, Os};
use crate::swiftshader;
use crate::vulkan::{self, Adapter};
use crate::workspace::Workspace;

/// The Vulkan loader and the program that lists adapters: enough to see whether there is a GPU.
const LOADER: [&str; 2] = ["libvulkan1", "vulkan-tools"];
/// Software Vulkan (lavapipe) and software GL through EGL, both on Mesa's llvmpipe.
const MESA: [&str; 5] = ["mesa-vulkan-drivers", "libgl1-mesa-dri", "libegl-mesa0", "libegl1", "libgles2"];
/// The package of `MESA` whose version decides.
const MESA_VULKAN: &str = MESA[0];
/// Mesa 22's llvmpipe ends an invocation after 65,535 loop iterations and says nothing.
const GOOD_MESA: u32 = 25;
/// Real data for the tests that train on it.
const DATASET: &str = "dataset-fashion-mnist";
/// Where distributions keep the manifests of Vulkan drivers.
const MANIFEST_FOLDERS: [&str; 3] =
    ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

/// What child processes will find, and the variables that make them find it.
pub struct Adapters {
    env: Vec<(&'static str, OsString)>,
    /// `None`: nothing here can tell (no `vulkaninfo`, or no Vulkan platform).
    found: Option<Vec<Adapter>>,
}

/// `cargo xtask adapters`: lines for `eval "$(cargo xtask adapters)"`.
pub fn task(workspace: &Workspace) -> Result<()> {
    let adapters = Adapters::set_up(workspace)?;
    for (name, value) in &adapters.env {
        println!("export {name}={}", shell_quoted(&value.to_string_lossy()));
    }
    if adapters.env.is_empty() {
        println!("# nothing to set: a process sees the adapters there are");
    }
    Ok(())
}

/// With `WGRAD_REQUIRE_GPU=1` a missing adapter is a failure.
pub fn required() -> bool {
    std::env::var_os("WGRAD_REQUIRE_GPU").is_some_and(|value| value == "1")
}

impl Adapters {
    /// Sets up what is missing, says what is found, and fails where none is and one is required.
    pub fn set_up(workspace: &Workspace) -> Result<Self> {
        let host = Host::detect();
        let adapters = match &host.os {
            // Metal and DX12 come with the system.
            Os::Macos | Os::Windows => Self { env: vec![], found: None },
            // Whoever names drivers wants these and no others.
            _ if vulkan::DRIVER_VARIABLES.iter().any(|name| std::env::var_os(name).is_some()) => {
                Self { env: vec![], found: vulkan::adapters(&[]) }
            }
            Os::Debian { codename } if host.root && std::env::var_os("WGRAD_NO_INSTALL").is_none() => {
                installed(workspace, codename)?
            }
            _ => Self::already_here(workspace)?,
        };
        adapters.report(&host)?;
        Ok(adapters)
    }

    /// Adds the variables to a child's environment.
    pub fn apply(&self, command: &mut Command) {
        command.envs(self.env.iter().cloned());
    }

    /// Nothing is put in the way of hardware; where there is none, the software drivers that are here are named
    /// to the loader, which does not find the unpacked one by itself.
    fn already_here(workspace: &Workspace) -> Result<Self> {
        let found = vulkan::adapters(&[]);
        let hardware = found.iter().flatten().any(Adapter::is_hardware);
        let Some(swiftshader) = swiftshader::manifest(&workspace.adapters())?.filter(|_| !hardware) else {
            return Ok(Self { env: vec![], found });
        };
        let manifests = lavapipe_manifests().into_iter().chain([swiftshader]);
        let value = std::env::join_paths(manifests).context("a folder's name holds the path separator")?;
        let env: Vec<_> = vulkan::DRIVER_VARIABLES.iter().map(|&name| (name, value.clone())).collect();
        let found = vulkan::adapters(&env);
        Ok(Self { env, found })
    }

    fn report(&self, host: &Host) -> Result<()> {
        // Metal and DX12 are not asked here: their tests say themselves what they miss.
        let system = matches!(host.os, Os::Macos | Os::Windows);
        let missing = match &self.found {
            None if system => return Ok(()),
            None => "no vulkaninfo here to find adapters with",
            Some(found) if found.is_empty() => "no Vulkan adapter",
            Some(found) => {
                found.iter().for_each(|adapter| eprintln!("xtask: adapter: {adapter}"));
                return Ok(());
            }
        };
        let remedy = host.how_to_get_adapters();
        if required() {
            bail!("{missing}, and WGRAD_REQUIRE_GPU=1 asks for one; try: {remedy}");
        }
        eprintln!(
            "xtask: {missing}; tests that need an adapter and find none are skipped, by name at the end"
        );
        eprintln!("xtask: to get software adapters: {remedy}");
        Ok(())
    }
}

/// The adapters of a Debian machine on which we are root. What cannot be installed is said and done without.
fn installed(workspace: &Workspace, codename: &str) -> Result<Adapters> {
    let folder = workspace.adapters();
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut installer =
        Installer { apt: Apt::default(), failures: Failures::load(&folder), codename, folder };
    installer.attempt("the Vulkan loader", Installer::loader)?;
    installer.attempt("Fashion-MNIST", Installer::dataset)?;
    if !vulkan::adapters(&[]).iter().flatten().any(Adapter::is_hardware) {
        installer.mesa()?;
        installer.attempt("SwiftShader", Installer::swiftshader)?;
    }
    installer.failures.advise();
    Adapters::already_here(workspace)
}

/// Each step first looks whether it is done already, so that a second run does not touch apt.
struct Installer<'a> {
    apt: Apt,
    failures: Failures,
    codename: &'a str,
    folder: PathBuf,
}

impl Installer<'_> {
    fn attempt(&mut self, name: &str, step: fn(&mut Self) -> Result<()>) -> Result<()> {
        if self.failures.has(name) {
            return Ok(());
        }
        step(self).or_else(|error| self.failures.add(name, &error))
    }

    fn loader(&mut self) -> Result<()> {
        self.install_missing(&LOADER)
    }

    fn dataset(&mut self) -> Result<()> {
        self.install_missing(&[DATASET])
    }

    fn swiftshader(&mut self) -> Result<()> {
        if swiftshader::is_unpacked(&self.folder) {
            return Ok(());
        }
        swiftshader::unpack(&mut self.apt, &self.folder)
    }

    /// Backports first, the release's own Mesa where these fail.
    fn mesa(&mut self) -> Result<()> {
        self.attempt("Mesa from backports", Self::mesa_from_backports)?;
        self.attempt("Mesa", |installer| installer.install_missing(&MESA))?;
        let version = apt::installed(&[MESA_VULKAN]).remove(MESA_VULKAN);
        if let Some(version) = version.filter(|version| apt::major(version) < Some(GOOD_MESA)) {
            eprintln!(
                "xtask: Mesa {version} is what there is; its llvmpipe cuts long loops short and is slow"
            );
        }
        Ok(())
    }

    fn mesa_from_backports(&mut self) -> Result<()> {
        let installed = apt::installed(&MESA);
        let version = installed.get(MESA_VULKAN).cloned();
        let is_good = version.as_deref().and_then(apt::major) >= Some(GOOD_MESA);
        if is_good && installed.len() == MESA.len() {
            return Ok(());
        }
        let version = version.or_else(|| self.apt.candidate(MESA_VULKAN)).unwrap_or_default();
        if !needs_backports(&version) {
            return Ok(());
        }
        let added = self.apt.add_backports(self.codename)?;
        let suite = format!("{}-backports", self.codename);
        let done = self.apt.install(&MESA, Some(&suite));
        if let (Err(_), Some(file)) = (&done, added) {
            // A suite that is not there would fail every later `apt-get update` of the machine.
            remove_source(&file)?;
        }
        done
    }

    fn install_missing(&mut self, packages: &[&str]) -> Result<()> {
        let installed = apt::installed(packages);
        let missing: Vec<&str> =
            packages.iter().copied().filter(|&name| !installed.contains_key(name)).collect();
        if missing.is_empty() { Ok(()) } else { self.apt.install(&missing, None) }
    }
}

/// Is the release's own Mesa too old, or the one that is here from backports already (all its packages must be
/// of one version)?
fn needs_backports(version: &str) -> bool {
    version.contains("~bpo") || apt::major(version) < Some(GOOD_MESA)
}

fn remove_source(file: &Path) -> Result<()> {
    std::fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))
}

/// The manifests of Mesa's software Vulkan; their names carry the architecture in some releases.
fn lavapipe_manifests() -> Vec<PathBuf> {
    let entries = MANIFEST_FOLDERS.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_lavapipe_manifest));
    paths.sort();
    paths
}

fn is_lavapipe_manifest(name: &str) -> bool {
    name.starts_with("lvp_icd.") && name.ends_with("json")
}

fn shell_quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:+@".contains(c);
    if value.chars().all(plain) { value.to_string() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backports_for_an_old_mesa_and_for_what_came_from_there() {
        assert!(needs_backports("22.3.6-1+deb12u1"));
        assert!(needs_backports("25.0.7-2~bpo12+1"));
        assert!(needs_backports(""), "an unknown version is taken for an old one");
        assert!(!needs_backports("25.0.7-2"));
    }

    #[test]
    fn manifests_of_all_releases() {
        assert!(is_lavapipe_manifest("lvp_icd.json") && is_lavapipe_manifest("lvp_icd.x86_64.json"));
        assert!(!is_lavapipe_manifest("intel_icd.json") && !is_lavapipe_manifest("lvp_icd.json.bak"));
    }

    #[test]
    fn quoting_is_for_the_shell() {
        assert_eq!(shell_quoted("/a/b_c-1.json:/d"), "/a/b_c-1.json:/d");
        assert_eq!(shell_quoted("/my dir/it's"), r"'/my dir/it'\''s'");
    }
}
