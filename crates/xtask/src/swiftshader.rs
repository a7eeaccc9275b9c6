//! SwiftShader, a software Vulkan of another vendor than Mesa, taken out of Debian's package of Chromium. The
//! browser itself is not installed: one library is unpacked under `target/adapters/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;

use crate::apt::Apt;
use crate::process;

const PACKAGE: &str = "chromium-common";
const LIBRARY: &str = "libvk_swiftshader.so";
const LIBRARY_IN_PACKAGE: &str = "usr/lib/chromium/libvk_swiftshader.so";
const MANIFEST: &str = "swiftshader_icd.json";

/// Is the library there already?
pub fn is_unpacked(folder: &Path) -> bool {
    folder.join(LIBRARY).is_file()
}

/// Fetches the package and keeps its one library.
pub fn unpack(apt: &mut Apt, folder: &Path) -> Result<()> {
    // Named by our process: two runs at once must not share it.
    let scratch = folder.join(format!("unpack-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let done = unpack_in(apt, folder, &scratch);
    std::fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    done
}

fn unpack_in(apt: &mut Apt, folder: &Path, scratch: &Path) -> Result<()> {
    let package = apt.download(PACKAGE, scratch)?;
    process::output(Command::new("dpkg-deb").arg("-x").arg(package).arg(scratch))?;
    let library = scratch.join(LIBRARY_IN_PACKAGE);
    // A rename: whoever looks sees the whole library or none.
    std::fs::rename(&library, folder.join(LIBRARY))
        .with_context(|| format!("{PACKAGE} holds no {LIBRARY_IN_PACKAGE}"))
}

/// The manifest that tells the loader of the library, written anew where it does not say where that now lies.
/// The package's own has a relative path that is wrong here.
pub fn manifest(folder: &Path) -> Result<Option<PathBuf>> {
    if !is_unpacked(folder) {
        return Ok(None);
    }
    let manifest = folder.join(MANIFEST);
    let text = manifest_text(&folder.join(LIBRARY));
    if std::fs::read_to_string(&manifest).ok().as_deref() != Some(&text) {
        std::fs::write(&manifest, text).with_context(|| format!("cannot write {}", manifest.display()))?;
    }
    Ok(Some(manifest))
}

fn manifest_text(library: &Path) -> String {
    let icd = json!({ "library_path": library, "api_version": "1.1.0" });
    format!("{:#}\n", json!({ "file_format_version": "1.0.0", "ICD": icd }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_json_with_the_path_as_given() {
        let text = manifest_text(Path::new("/a \"b\"/lib.so"));
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["ICD"]["library_path"], "/a \"b\"/lib.so");
        assert_eq!(parsed["file_format_version"], "1.0.0");
    }

    #[test]
    fn no_library_no_manifest() {
        assert_eq!(manifest(Path::new("/nowhere/at/all")).unwrap(), None);
    }
}
