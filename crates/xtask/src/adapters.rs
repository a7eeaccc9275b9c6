//! GPU adapters for the tests. `setup.sh` installs software drivers where there is no GPU; this module runs the script
//! and sets the printed environment variables in child processes.

use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

/// Environment variables that make the adapters visible to a process.
pub struct Adapters {
    variables: Vec<(String, String)>,
}

/// `cargo xtask adapters`: prints lines for `eval "$(cargo xtask adapters)"`.
pub fn task(workspace: &Workspace) -> Result<()> {
    let adapters = Adapters::set_up(workspace)?;
    for (name, value) in &adapters.variables {
        println!("export {name}={}", shell_quoted(value));
    }
    if adapters.variables.is_empty() {
        println!("# no variable is needed: the Vulkan loader finds the adapters without configuration");
    }
    Ok(())
}

impl Adapters {
    /// Installs missing software drivers and reports the adapters found.
    ///
    /// On macOS and Windows nothing is set up, because Metal and DX12 are part of the operating system.
    pub fn set_up(workspace: &Workspace) -> Result<Self> {
        if cfg!(any(target_os = "macos", windows)) {
            return Ok(Self { variables: Vec::new() });
        }
        let lines = process::stdout(&mut workspace.setup("adapters"))?;
        Ok(Self { variables: parse_variables(&lines) })
    }

    /// Adds the variables to the environment of a command.
    pub fn apply(&self, command: &mut Command) {
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }
}

fn parse_variables(lines: &str) -> Vec<(String, String)> {
    let pairs = lines.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn shell_quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZAS: &str = "\
Types: deb
# a comment
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

# A disabled stanza.
Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm

Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 Suites: not a field
";

    const LINES: &str = "\
# deb http://off.example/debian bookworm main
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian bookworm-updates main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib # a reason
";

    /// Returns the fields of the apt source that `setup.sh` derives for `suite` from a file with the given name and
    /// text.
    fn derived_source(file_name: &str, text: &str, suite: &str) -> Vec<String> {
        let folder = std::env::temp_dir().join(format!("xtask-{}-{suite}-{file_name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(file_name);
        std::fs::write(&file, text).unwrap();
        let workspace = Workspace::find().unwrap();
        let mut command = Command::new("sh");
        command.arg(workspace.root().join("crates/xtask/setup.sh")).arg("source").arg(&folder).arg(&file);
        let printed = process::output(command.args([suite, &format!("{suite}-backports")])).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        printed.split_whitespace().map(str::to_string).collect()
    }

    #[test]
    #[cfg(unix)]
    fn backports_source_is_derived_from_a_deb822_stanza() {
        let source = derived_source("debian.sources", STANZAS, "bookworm").join(" ");
        assert_eq!(
            source,
            "Types: deb URIs: http://mirror.example/debian Suites: bookworm-backports Components: main contrib \
             Signed-By: -----BEGIN PGP PUBLIC KEY BLOCK----- . Suites: not a field"
        );
        assert!(derived_source("debian.sources", STANZAS, "trixie").is_empty());
        let sources_only = "Types: deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\n";
        assert!(derived_source("debian.sources", sources_only, "bookworm").is_empty());
    }

    #[test]
    #[cfg(unix)]
    fn backports_source_is_derived_from_a_one_line_source() {
        let source = derived_source("sources.list", LINES, "bookworm").join(" ");
        assert_eq!(
            source,
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm-backports main contrib"
        );
        let tabs = "deb\thttp://mirror.example/debian  bookworm main";
        let source = derived_source("sources.list", tabs, "bookworm").join(" ");
        assert_eq!(source, "deb http://mirror.example/debian bookworm-backports main");
        for broken in
            ["", "deb", "debug http://m bookworm main", "deb [x http://m bookworm main", "deb http://m"]
        {
            assert!(derived_source("sources.list", broken, "bookworm").is_empty(), "{broken}");
        }
    }

    #[test]
    fn variables_are_parsed_and_quoted_for_the_shell() {
        let variables = parse_variables("VK_DRIVER_FILES=/a/b.json:/c=d.json\n");
        assert_eq!(variables, [("VK_DRIVER_FILES".to_string(), "/a/b.json:/c=d.json".to_string())]);
        assert_eq!(shell_quoted("/my dir/it's"), r"'/my dir/it'\''s'");
    }
}
