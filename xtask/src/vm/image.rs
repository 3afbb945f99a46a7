//! The machine's files: a tree that is put together from files of this machine and written as an archive.
//!
//! Everything lies in the machine where it lies here, symbolic links included, so that a program finds what it was built
//! or configured to find. What a program needs comes with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufWriter, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};

use super::libraries::Libraries;
use super::newc::Archive;

/// More links in one path than the kernel follows (fs/namei.c).
const MOST_LINKS: u32 = 40;

enum Node {
    Directory(u32),
    Link(PathBuf),
    /// A file of this machine.
    Copy {
        source: PathBuf,
        mode: u32,
        length: u64,
    },
    Text {
        mode: u32,
        content: Vec<u8>,
    },
}

/// A tree of files.
pub(super) struct Image {
    /// By their absolute paths, in which no part is a link.
    nodes: BTreeMap<PathBuf, Node>,
    libraries: Libraries,
    /// Files whose needs have not been looked at.
    unseen: VecDeque<PathBuf>,
    missing: BTreeSet<String>,
}

impl Image {
    /// An empty one.
    pub(super) fn new(libraries: Libraries) -> Self {
        let missing = BTreeSet::new();
        Image { nodes: BTreeMap::new(), libraries, unseen: VecDeque::new(), missing }
    }

    /// Makes a directory, and those above it.
    pub(super) fn directory(&mut self, path: &str, mode: u32) -> anyhow::Result<()> {
        let path = self.place(Path::new(path))?;
        self.nodes.insert(path, Node::Directory(mode));
        Ok(())
    }

    /// Makes a file with this content.
    pub(super) fn text(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) -> anyhow::Result<()> {
        let path = self.place(Path::new(path))?;
        self.nodes.insert(path, Node::Text { mode, content: content.into() });
        Ok(())
    }

    /// Makes a symbolic link.
    pub(super) fn link(&mut self, path: &Path, target: &Path) -> anyhow::Result<()> {
        let path = self.place(path)?;
        self.nodes.insert(path, Node::Link(target.to_owned()));
        Ok(())
    }

    /// Repeats a link of this machine, if there is one at this path, without what it leads to.
    pub(super) fn link_as_here(&mut self, path: &str) -> anyhow::Result<()> {
        match fs::read_link(path) {
            Ok(target) => self.link(Path::new(path), &target),
            Err(_) => Ok(()),
        }
    }

    /// Adds a file of this machine, or a directory with all that is in it, at its own path; and what it needs.
    pub(super) fn add(&mut self, path: &Path) -> anyhow::Result<()> {
        self.copy(path)?;
        self.settle()
    }

    /// Adds a file or directory of this machine at another path; and what it needs.
    pub(super) fn add_at(&mut self, path: &Path, guest: &Path) -> anyhow::Result<()> {
        let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
        let guest = self.place(guest)?;
        if metadata.is_dir() {
            self.nodes.insert(guest.clone(), Node::Directory(metadata.permissions().mode() & 0o7777));
            for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
                let entry = entry?;
                self.add_at(&entry.path(), &guest.join(entry.file_name()))?;
            }
        } else {
            self.insert_file(guest, path.to_owned(), &metadata);
        }
        self.settle()
    }

    /// Whether something is at this path.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.nodes.contains_key(path)
    }

    /// Libraries that files need and that are not on this machine, with who needs them.
    pub(super) fn missing(&self) -> impl Iterator<Item = &str> {
        self.missing.iter().map(String::as_str)
    }

    /// Writes the archive.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        let mut archive = Archive::new(BufWriter::with_capacity(1 << 20, file));
        for (path, node) in &self.nodes {
            let name = path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes();
            let written = match node {
                Node::Directory(mode) => archive.directory(name, *mode),
                Node::Link(target) => archive.link(name, target.as_os_str().as_bytes()),
                Node::Text { mode, content } => {
                    archive.file(name, *mode, content.len() as u64, content.as_slice())
                }
                Node::Copy { source, mode, length } => {
                    File::open(source).and_then(|content| archive.file(name, *mode, *length, content))
                }
            };
            written.with_context(|| format!("could not pack {}", path.display()))?;
        }
        archive.finish()?;
        Ok(())
    }

    /// Where a path leads in the tree, once the directories that it names are there.
    fn place(&mut self, path: &Path) -> anyhow::Result<PathBuf> {
        let mut links = 0;
        let mut left: VecDeque<PathBuf> = parts(path).collect();
        let mut place = PathBuf::from("/");
        while let Some(part) = left.pop_front() {
            let next = step(&place, &part);
            if left.is_empty() {
                return Ok(next);
            }
            match self.nodes.get(&next) {
                Some(Node::Link(target)) => {
                    links += 1;
                    if links > MOST_LINKS {
                        bail!("{}: too many links", path.display());
                    }
                    if target.is_absolute() {
                        place = "/".into();
                    }
                    parts(target).rev().for_each(|part| left.push_front(part));
                    continue;
                }
                Some(Node::Directory(_)) => {}
                Some(_) => bail!("{} is not a directory in the machine", next.display()),
                None if next != Path::new("/") => {
                    self.nodes.insert(next.clone(), Node::Directory(0o755));
                }
                None => {}
            }
            place = next;
        }
        Ok(place)
    }

    /// Copies what is at a path, and every link on the way there.
    fn copy(&mut self, path: &Path) -> anyhow::Result<()> {
        let mut links = 0;
        let mut left: VecDeque<PathBuf> = parts(path).collect();
        let mut place = PathBuf::from("/");
        while let Some(part) = left.pop_front() {
            let next = step(&place, &part);
            let metadata = fs::symlink_metadata(&next).with_context(|| path.display().to_string())?;
            if metadata.is_symlink() {
                links += 1;
                if links > MOST_LINKS {
                    bail!("{}: too many links", path.display());
                }
                let target = fs::read_link(&next)?;
                if target.is_absolute() {
                    place = "/".into();
                }
                parts(&target).rev().for_each(|part| left.push_front(part));
                self.nodes.entry(next).or_insert(Node::Link(target));
                continue;
            }
            if metadata.is_dir() {
                if next != Path::new("/") {
                    let mode = metadata.permissions().mode() & 0o7777;
                    self.nodes.entry(next.clone()).or_insert(Node::Directory(mode));
                }
            } else if left.is_empty() && metadata.is_file() {
                self.insert_file(next.clone(), next.clone(), &metadata);
            } else {
                bail!("{} is neither a file nor a directory", path.display());
            }
            place = next;
        }
        if place.is_dir() { self.copy_entries(&place) } else { Ok(()) }
    }

    fn copy_entries(&mut self, directory: &Path) -> anyhow::Result<()> {
        for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_symlink() && !entry.path().exists() {
                let path = self.place(&entry.path())?;
                self.nodes.insert(path, Node::Link(fs::read_link(entry.path())?));
            } else if !self.has(&entry.path()) && (kind.is_dir() || kind.is_file() || kind.is_symlink()) {
                self.copy(&entry.path())?;
            }
        }
        Ok(())
    }

    fn insert_file(&mut self, place: PathBuf, source: PathBuf, metadata: &fs::Metadata) {
        if self.has(&place) {
            return;
        }
        let mode = metadata.permissions().mode() & 0o7777;
        self.unseen.push_back(source.clone());
        self.nodes.insert(place, Node::Copy { source, mode, length: metadata.len() });
    }

    /// Adds what the files need that came last, and what that needs.
    fn settle(&mut self) -> anyhow::Result<()> {
        while let Some(path) = self.unseen.pop_front() {
            let Some(content) = read_program(&path)? else { continue };
            let needs = self.libraries.needs(&path, &content);
            for library in needs.missing {
                self.missing.insert(format!("{library}, which {} needs", path.display()));
            }
            for file in needs.files {
                if file.exists() {
                    self.copy(&file)?;
                } else {
                    self.missing.insert(format!("{}, which {} needs", file.display(), path.display()));
                }
            }
        }
        Ok(())
    }
}

/// The content of a program, library or script; nothing for other files.
fn read_program(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut content = Vec::new();
    file.by_ref().take(4).read_to_end(&mut content)?;
    let is_script = content.starts_with(b"#!") && file.metadata()?.permissions().mode() & 0o111 != 0;
    if !is_script && content != b"\x7fELF" {
        return Ok(None);
    }
    file.read_to_end(&mut content)?;
    Ok(Some(content))
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = PathBuf> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
}

fn step(place: &Path, part: &Path) -> PathBuf {
    if part.as_os_str() == OsStr::new("..") {
        return place.parent().unwrap_or(Path::new("/")).to_owned();
    }
    place.join(part)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn image() -> Image {
        Image::new(Libraries::default())
    }

    fn target<'a>(image: &'a Image, path: &Path) -> Option<&'a Path> {
        match image.nodes.get(path)? {
            Node::Link(target) => Some(target),
            _ => None,
        }
    }

    #[test]
    fn a_file_comes_with_the_links_that_lead_to_it() {
        let place = TempDir::new().unwrap();
        let root = place.path().canonicalize().unwrap();
        fs::create_dir(root.join("real")).unwrap();
        fs::write(root.join("real/file"), "text").unwrap();
        symlink("real", root.join("alias")).unwrap();
        symlink("../alias/file", root.join("real/other")).unwrap();
        let mut image = image();
        image.add(&root.join("alias/other")).unwrap();
        assert_eq!(target(&image, &root.join("alias")), Some(Path::new("real")));
        assert_eq!(target(&image, &root.join("real/other")), Some(Path::new("../alias/file")));
        assert!(matches!(image.nodes[&root.join("real/file")], Node::Copy { length: 4, .. }));
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let place = TempDir::new().unwrap();
        symlink("b", place.path().join("a")).unwrap();
        symlink("a", place.path().join("b")).unwrap();
        assert!(image().add(&place.path().join("a")).unwrap_err().to_string().contains("too many links"));
    }

    #[test]
    fn a_directory_comes_with_all_that_is_in_it() {
        let place = TempDir::new().unwrap();
        let root = place.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "").unwrap();
        symlink("nowhere", root.join("a/dangling")).unwrap();
        let mut image = image();
        image.add(&root.join("a")).unwrap();
        assert!(image.has(&root.join("a/b/file")));
        assert_eq!(target(&image, &root.join("a/dangling")), Some(Path::new("nowhere")));
    }

    #[test]
    fn a_path_goes_through_the_links_of_the_image() {
        let mut image = image();
        image.link(Path::new("/bin"), Path::new("usr/bin")).unwrap();
        image.text("/bin/tool", 0o755, "").unwrap();
        assert!(image.has(Path::new("/usr/bin/tool")) && !image.has(Path::new("/bin/tool")));
        assert!(image.has(Path::new("/usr/bin")));
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_that_names_it() {
        let error = image().add(Path::new("/nowhere/file")).unwrap_err();
        assert_eq!(error.to_string(), "/nowhere/file");
    }

    #[test]
    fn a_program_comes_with_its_libraries() {
        let mut image = Image::new(Libraries::of_this_machine());
        image.add(&std::env::current_exe().unwrap()).unwrap();
        let has = |name: &str| image.nodes.keys().any(|path| path.ends_with(name));
        assert!(has("libc.so.6") && has("ld-linux-x86-64.so.2"));
        assert_eq!(image.missing().next(), None);
    }
}
