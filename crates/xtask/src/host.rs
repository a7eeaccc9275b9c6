//! What kind of machine this is, as far as installing goes.

use std::path::Path;

use crate::process;

/// The machine as the set-up sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub os: Os,
    /// May install packages.
    pub root: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Os {
    /// Debian itself, with its codename (`bookworm`); derivatives are `Linux`, as their packages differ.
    Debian {
        codename: String,
    },
    /// Another distribution: its `ID` and what it says that it is like.
    Linux {
        ids: Vec<String>,
    },
    Macos,
    Windows,
}

impl Host {
    pub fn detect() -> Self {
        Self { os: Os::detect(), root: cfg!(unix) && user_is_root() }
    }

    /// The commands that get the software adapters here, for a person to type.
    pub fn how_to_get_adapters(&self) -> String {
        let manager = match &self.os {
            Os::Debian { .. } => "apt-get",
            Os::Linux { ids } => package_manager(ids),
            Os::Macos => return "Metal needs macOS 11 or newer on a machine with a GPU".into(),
            Os::Windows => return "install the graphics driver of the GPU's vendor".into(),
        };
        let sudo = if self.root { "" } else { "sudo " };
        let install = match manager {
            "apt-get" => "apt-get install mesa-vulkan-drivers libvulkan1 vulkan-tools libegl1 libgles2",
            "dnf" => "dnf install mesa-vulkan-drivers vulkan-loader vulkan-tools mesa-libEGL mesa-libGLES",
            "pacman" => "pacman -S vulkan-swrast vulkan-icd-loader vulkan-tools mesa",
            "zypper" => "zypper install libvulkan_lvp vulkan-tools libvulkan1 Mesa-libEGL1",
            _ => return "install Mesa's Vulkan drivers, the Vulkan loader and vulkan-tools".into(),
        };
        format!("{sudo}{install}")
    }
}

impl Os {
    fn detect() -> Self {
        if cfg!(target_os = "macos") {
            return Self::Macos;
        }
        if cfg!(windows) {
            return Self::Windows;
        }
        let text = ["/etc/os-release", "/usr/lib/os-release"]
            .iter()
            .find_map(|path| std::fs::read_to_string(Path::new(path)).ok())
            .unwrap_or_default();
        Self::from_os_release(&text)
    }

    fn from_os_release(text: &str) -> Self {
        let id = os_release_field(text, "ID").unwrap_or_default();
        // An image of Debian may name no codename; it then gets no backports.
        if id == "debian" {
            return Self::Debian { codename: os_release_field(text, "VERSION_CODENAME").unwrap_or_default() };
        }
        let like = os_release_field(text, "ID_LIKE").unwrap_or_default();
        let ids = std::iter::once(id.as_str()).chain(like.split_whitespace());
        Self::Linux { ids: ids.filter(|id| !id.is_empty()).map(str::to_string).collect() }
    }
}

/// One value of the `KEY=value` lines of os-release(5), without its quotes.
fn os_release_field(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.trim().split_once('=')?;
        (name == key).then(|| value.trim_matches(['"', '\'']).to_string())
    })
}

fn package_manager(ids: &[String]) -> &'static str {
    let known = ids.iter().find_map(|id| match id.as_str() {
        "debian" | "ubuntu" => Some("apt-get"),
        "fedora" | "rhel" | "centos" => Some("dnf"),
        "arch" => Some("pacman"),
        "suse" | "opensuse" => Some("zypper"),
        _ => None,
    });
    known.unwrap_or("")
}

fn user_is_root() -> bool {
    // `id` instead of libc: no unsafe, and asked once.
    process::output(std::process::Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_known_with_its_codename() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(Os::from_os_release(text), Os::Debian { codename: "bookworm".into() });
        assert_eq!(Os::from_os_release("ID=debian\n"), Os::Debian { codename: String::new() });
    }

    #[test]
    fn a_derivative_is_not_debian_but_has_apt() {
        let os = Os::from_os_release("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_CODENAME='wilma'\n");
        assert_eq!(os, Os::Linux { ids: vec!["linuxmint".into(), "ubuntu".into(), "debian".into()] });
        let host = Host { os, root: false };
        assert!(host.how_to_get_adapters().starts_with("sudo apt-get install mesa-vulkan-drivers"));
    }

    #[test]
    fn no_os_release_is_some_linux() {
        let os = Os::from_os_release("");
        assert_eq!(os, Os::Linux { ids: vec![] });
        assert!(Host { os, root: true }.how_to_get_adapters().contains("Mesa"));
    }

    #[test]
    fn a_field_is_not_taken_from_a_longer_name() {
        assert_eq!(os_release_field("VARIANT_ID=x\nID=\"y\"\n", "ID").as_deref(), Some("y"));
        assert_eq!(os_release_field("ID_LIKE=x\n", "ID"), None);
    }
}
