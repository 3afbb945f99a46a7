//! Debian packages, unpacked beside the system: downloaded by the machine's own `apt-get` with lists, cache and state
//! of their own, so that nothing of the system changes and no root is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail, ensure};

/// Where Debian is if the machine does not say.
const MIRROR: &str = "http://deb.debian.org/debian";
/// The keys that Debian's releases are signed with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Names another mirror.
const MIRROR_VARIABLE: &str = "ENDO_VM_MIRROR";

/// An `apt-get` of its own.
pub(super) struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Makes one for a release of Debian, in an empty directory, and downloads the list of packages.
    pub(super) fn prepare(directory: &Path, release: &str) -> anyhow::Result<Self> {
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(directory.join(part)).with_context(|| directory.display().to_string())?;
        }
        let mirror = mirror();
        let source = format!("deb [arch=amd64 signed-by={KEYRING}] {mirror} {release} main\n");
        fs::write(directory.join("sources.list"), source)?;
        fs::write(directory.join("status"), "")?;
        fs::write(directory.join("apt.conf"), configuration(directory))?;
        let apt = Apt { directory: directory.to_owned() };
        apt.get(&["update", "--error-on=any"]).with_context(|| {
            format!("could not get the list of packages of Debian {release} from {mirror}")
        })?;
        Ok(apt)
    }

    /// Downloads packages with all that they depend on; returns the archives of packages.
    pub(super) fn download_with_dependencies(&self, packages: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        let fixed = ["install", "--yes", "--download-only", "--no-install-recommends"];
        self.get(&[&fixed, packages].concat())
            .with_context(|| format!("could not download {}", packages.join(", ")))?;
        self.archives()
    }

    /// Downloads the one package that a package of no content depends on; returns its archive.
    pub(super) fn download_dependency(&self, package: &str, prefix: &str) -> anyhow::Result<PathBuf> {
        let output = self.run(Command::new("apt-cache").args(["depends", "--important", package]))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let name = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: ").filter(|name| name.starts_with(prefix)))
            .with_context(|| format!("{package} depends on no {prefix}…"))?;
        let mut download = Command::new("apt-get");
        // It goes into the current directory.
        download.args(["download", "-qq", name]).current_dir(self.directory.join("archives"));
        self.run(&mut download).with_context(|| format!("could not download {name}"))?;
        let start = format!("{name}_");
        let is_it =
            |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&start));
        self.archives()?
            .into_iter()
            .find(is_it)
            .with_context(|| format!("{name} is nowhere after its download"))
    }

    fn archives(&self) -> anyhow::Result<Vec<PathBuf>> {
        let directory = self.directory.join("archives");
        let mut archives: Vec<PathBuf> = fs::read_dir(&directory)?
            .map(|entry| Ok(entry?.path()))
            .collect::<anyhow::Result<Vec<_>>>()?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect();
        archives.sort();
        Ok(archives)
    }

    fn get(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.run(Command::new("apt-get").arg("-qq").args(arguments)).map(drop)
    }

    fn run(&self, command: &mut Command) -> anyhow::Result<Output> {
        command.env("APT_CONFIG", self.directory.join("apt.conf")).env("DEBIAN_FRONTEND", "noninteractive");
        output(command)
    }
}

/// Unpacks an archive, or of its files only those that match.
pub(super) fn unpack(archive: &Path, into: &Path, only: Option<&str>) -> anyhow::Result<()> {
    fs::create_dir_all(into)?;
    let Some(only) = only else {
        output(Command::new("dpkg-deb").arg("--extract").args([archive, into]))?;
        return Ok(());
    };
    let mut files = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()
        .context("could not run dpkg-deb")?;
    let stream = files.stdout.take().context("dpkg-deb has no output")?;
    let mut tar = Command::new("tar");
    // Only the names that follow a directory go there.
    tar.args(["--extract", "--directory"]).arg(into).args(["--wildcards", only]).stdin(stream);
    output(&mut tar)?;
    ensure!(files.wait()?.success(), "dpkg-deb could not read {}", archive.display());
    Ok(())
}

/// Runs a command whose output is of interest, or how it failed.
fn output(command: &mut Command) -> anyhow::Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("could not run {program} (this needs Debian's package tools)"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        // apt says first what it wanted and last what came of it.
        let line = errors.lines().rfind(|line| line.starts_with("E: ")).or_else(|| errors.lines().last());
        bail!("{program}: {}", line.unwrap_or("failed without a word"));
    }
    Ok(output)
}

/// The first thing that apt reads: with it, nothing of the system's configuration is read but what concerns the network.
fn configuration(directory: &Path) -> String {
    let directory = directory.display();
    let network = Command::new("apt-config").args(["dump", "Acquire"]).output();
    let network =
        network.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let network = network_lines(&network);
    format!(
        "Dir::State \"{directory}\";\n\
         Dir::State::status \"{directory}/status\";\n\
         Dir::Cache \"{directory}\";\n\
         Dir::Etc::main \"/dev/null\";\n\
         Dir::Etc::parts \"/dev/null\";\n\
         Dir::Etc::sourcelist \"{directory}/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"/dev/null\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"3\";\n\
         APT::Architecture \"amd64\";\n\
         APT::Architectures {{ \"amd64\"; }};\n\
         APT::Sandbox::User \"root\";\n\
         {network}"
    )
}

/// Proxies, and whether dates of lists are believed.
fn network_lines(dump: &str) -> String {
    let wanted = ["Acquire::http::", "Acquire::https::", "Acquire::Check-"];
    dump.lines()
        .filter(|line| wanted.iter().any(|start| line.starts_with(start)))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The mirror that the machine gets Debian from, if it does.
fn mirror() -> String {
    if let Ok(mirror) = std::env::var(MIRROR_VARIABLE) {
        return mirror;
    }
    let targets = Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)"]).output();
    let targets =
        targets.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    debian_of(&targets).unwrap_or(MIRROR).to_owned()
}

/// The archive of Debian among addresses of archives: every mirror has it at a path that ends so.
fn debian_of(addresses: &str) -> Option<&str> {
    addresses.lines().map(|line| line.trim_end_matches('/')).find(|address| address.ends_with("/debian"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_of_the_machine() {
        let addresses = "https://packages.example/apt/\nhttp://mirror.example/debian-security/\nhttp://mirror.example/debian/\n";
        assert_eq!(debian_of(addresses), Some("http://mirror.example/debian"));
        assert_eq!(debian_of("http://archive.example/ubuntu/\n"), None);
    }

    #[test]
    fn of_the_system_s_configuration_the_network_is_taken() {
        let dump = "Acquire::IndexTargets::deb::DEP-11 \"x\";\nAcquire::http::Proxy \"http://proxy:3128\";\n";
        assert_eq!(network_lines(dump), "Acquire::http::Proxy \"http://proxy:3128\";\n");
    }

    #[test]
    fn a_command_that_fails_is_an_error_with_its_last_word() {
        let script = "echo 'W: this' >&2; echo 'E: that' >&2; echo 'more' >&2; exit 100";
        let error = output(Command::new("sh").args(["-c", script])).unwrap_err();
        assert_eq!(error.to_string(), "sh: E: that");
    }

    #[test]
    fn a_machine_without_the_tools_is_told_what_is_missing() {
        let error = output(&mut Command::new("no-such-tool")).unwrap_err();
        assert_eq!(error.to_string(), "could not run no-such-tool (this needs Debian's package tools)");
    }
}
