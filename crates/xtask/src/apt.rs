//! Debian's packages: what is installed, and installing more without a question asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::sources::{self, Format};

const SOURCES_FOLDER: &str = "/etc/apt/sources.list.d";
const SOURCES_LIST: &str = "/etc/apt/sources.list";

/// Name and version of those of the packages that are installed.
pub fn installed(packages: &[&str]) -> BTreeMap<String, String> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Package} ${db:Status-Status} ${Version}\\n"]).args(packages);
    // It fails as soon as one package is unknown, and still lists the others.
    let listed = query.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    parse_installed(&listed.unwrap_or_default())
}

fn parse_installed(listed: &str) -> BTreeMap<String, String> {
    let rows = listed.lines().filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [name, "installed", version] => Some((name.to_string(), version.to_string())),
        _ => None,
    });
    rows.collect()
}

/// The first number of a version, behind its epoch: 25 of `25.0.7-2~bpo12+1`.
pub fn major(version: &str) -> Option<u32> {
    let upstream = version.split_once(':').map_or(version, |(_, upstream)| upstream);
    upstream.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// apt-get, with the package lists fetched at most once before the first use.
#[derive(Default)]
pub struct Apt {
    updated: bool,
}

impl Apt {
    /// Installs packages, from `suite` where it is named, and says so first.
    pub fn install(&mut self, packages: &[&str], suite: Option<&str>) -> Result<()> {
        self.update_once();
        let from = suite.map(|suite| format!(" from {suite}")).unwrap_or_default();
        eprintln!("xtask: installs {}{from}", packages.join(" "));
        let mut args = vec!["install", "--yes", "--no-install-recommends"];
        args.extend(packages);
        args.extend(suite.map(|suite| ["--target-release", suite]).into_iter().flatten());
        process::output(&mut apt_get(&args))?;
        Ok(())
    }

    /// Fetches one package file into an empty folder, and installs nothing.
    pub fn download(&mut self, package: &str, folder: &Path) -> Result<PathBuf> {
        self.update_once();
        eprintln!("xtask: fetches {package} (unpacked under target/, not installed)");
        process::output(apt_get(&["download", package]).current_dir(folder))?;
        let mut files = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        let deb = files.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
        deb.with_context(|| format!("apt-get download {package} left no package file"))
    }

    /// The version that `apt-get install` would take.
    pub fn candidate(&mut self, package: &str) -> Option<String> {
        self.update_once();
        let policy = process::output(Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C"));
        parse_candidate(&policy.ok()?)
    }

    /// Adds the backports suite of `codename`. Returns the file written, `None` where the suite was there.
    pub fn add_backports(&mut self, codename: &str) -> Result<Option<PathBuf>> {
        let suite = format!("{codename}-backports");
        let files = source_files();
        if files.iter().any(|(text, format)| sources::has_suite(text, *format, &suite)) {
            return Ok(None);
        }
        let derived = files
            .iter()
            .find_map(|(text, format)| Some((sources::backports(text, *format, codename)?, *format)));
        let Some((text, format)) = derived else {
            bail!("no apt source of this machine is for {codename}, so none can be derived for {suite}");
        };
        let file = Path::new(SOURCES_FOLDER).join(format!("{suite}.{}", format.extension()));
        eprintln!("xtask: adds the apt source {suite}");
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        self.updated = false;
        Ok(Some(file))
    }

    /// A failed update is said and survived: the lists that are there may do, and a source that does not answer
    /// may be none of ours. What is then missing fails with its own message.
    fn update_once(&mut self) {
        if std::mem::replace(&mut self.updated, true) {
            return;
        }
        if let Err(error) = process::output(&mut apt_get(&["update"])) {
            eprintln!("xtask: going on with the package lists there are: {error:#}");
        }
    }
}

/// `apt-get ARGS` with no question asked and no endless wait.
fn apt_get(args: &[&str]) -> Command {
    const OPTIONS: [&str; 6] = [
        "DPkg::Lock::Timeout=120",
        "Acquire::Retries=2",
        "Acquire::http::Timeout=30",
        "Acquire::https::Timeout=30",
        // Else a source that cannot be reached is a warning, and the reason of what follows is lost.
        "APT::Update::Error-Mode=any",
        // The sandbox's user may not write into the folder of a download; apt would only warn, at length.
        "APT::Sandbox::User=root",
    ];
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C").args(args).arg("-q");
    command.args(OPTIONS.iter().flat_map(|option| ["-o", option]));
    command
}

/// Texts of the files that apt reads its sources from.
fn source_files() -> Vec<(String, Format)> {
    let listed = std::fs::read_dir(SOURCES_FOLDER).into_iter().flatten();
    let mut paths: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.push(SOURCES_LIST.into());
    paths.sort();
    let files = paths.iter().filter_map(|path| {
        let format = Format::of(path.file_name()?.to_str()?)?;
        Some((std::fs::read_to_string(path).ok()?, format))
    });
    files.collect()
}

fn parse_candidate(policy: &str) -> Option<String> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    (version != "(none)").then(|| version.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_counts() {
        let listed =
            "libegl1 installed 1.6.0-1\nlibgles2 config-files 1.6.0-1\nvulkan-tools not-installed \n";
        let installed = parse_installed(listed);
        assert_eq!(installed.into_iter().collect::<Vec<_>>(), [("libegl1".into(), "1.6.0-1".into())]);
    }

    #[test]
    fn major_of_debian_versions() {
        assert_eq!(major("25.0.7-2~bpo12+1"), Some(25));
        assert_eq!(major("1:22.3.6-1+deb12u1"), Some(22));
        assert_eq!(major("none"), None);
    }

    #[test]
    fn candidate_of_policy() {
        let policy = "mesa-vulkan-drivers:\n  Installed: (none)\n  Candidate: 22.3.6-1\n  Version table:\n";
        assert_eq!(parse_candidate(policy).as_deref(), Some("22.3.6-1"));
        assert_eq!(parse_candidate("x:\n  Candidate: (none)\n"), None);
        assert_eq!(parse_candidate(""), None);
    }
}
