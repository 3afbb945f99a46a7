//! What the workloads read: generated once, the same everywhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use endo_testing::{compile, data, guests_directory};

use crate::workloads::Scale;

/// Where programs and their inputs lie.
#[derive(Debug)]
pub struct Inputs {
    /// The directory that workloads run in.
    pub directory: PathBuf,
    programs: [(&'static str, PathBuf); 7],
}

impl Inputs {
    /// Generates and compiles what is not there yet.
    pub fn prepare(scale: Scale) -> anyhow::Result<Inputs> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
        let programs = [
            ("compute", compile("gcc -O2 -lm", &[sources.join("compute.c")])),
            ("calls", compile("gcc -O2", &[sources.join("calls.c")])),
            ("processes", compile("gcc -O2", &[sources.join("processes.c")])),
            ("threads", compile("gcc -O2 -pthread", &[sources.join("threads.c")])),
            ("signals", compile("gcc -O2", &[sources.join("signals.c")])),
            ("resident", compile("gcc -O2 -static", &[sources.join("resident.c")])),
            ("objects", compile("g++ -O2", &[sources.join("objects.cc")])),
        ];
        let (name, megabytes) = match scale {
            Scale::Full => ("inputs-full", 32),
            Scale::Quick => ("inputs-quick", 6),
        };
        let directory = guests_directory().join(name);
        fs::create_dir_all(&directory)?;
        let inputs = Inputs { directory, programs };
        inputs.write("mixed", || data::mixed(megabytes << 20, 1))?;
        inputs.write("less", || data::mixed(megabytes << 18, 2))?;
        inputs.write("text", || data::text(megabytes << 20, 3))?;
        inputs.write("program.c", || c_program(if scale == Scale::Full { 250 } else { 60 }).into_bytes())?;
        let digits = if scale == Scale::Full { 1500 } else { 600 };
        inputs.write("digits.bc", || format!("scale={digits}; 4*a(1); e(1); sqrt(2)\n").into_bytes())?;
        for script in ["loop.py", "documents.py", "loop.pl", "loop.lua", "loop.awk", "loop.sh"] {
            let text = fs::read(sources.join(script)).with_context(|| format!("read {script}"))?;
            fs::write(inputs.directory.join(script), text)?;
        }
        let (script, times) =
            (fs::read(sources.join("script.sql"))?, if scale == Scale::Full { 5 } else { 1 });
        fs::write(inputs.directory.join("scripts.sql"), script.repeat(times))?;
        for (packed, command) in [
            ("mixed.gz", "gzip -nc mixed"),
            ("mixed.xz", "xz -1 -T1 -c mixed"),
            ("mixed.bz2", "bzip2 -c less"),
            ("mixed.zst", "zstd -q -c mixed"),
        ] {
            inputs.pack(packed, command)?;
        }
        Ok(inputs)
    }

    /// The path of a command's first word.
    pub fn program(&self, word: &str) -> PathBuf {
        let ours = self.programs.iter().find(|(name, _)| *name == word);
        ours.map_or_else(|| PathBuf::from(word), |(_, path)| path.clone())
    }

    fn write(&self, name: &str, contents: impl FnOnce() -> Vec<u8>) -> anyhow::Result<()> {
        let path = self.directory.join(name);
        if !path.exists() {
            fs::write(&path, contents()).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    fn pack(&self, name: &str, command: &str) -> anyhow::Result<()> {
        if self.directory.join(name).exists() {
            return Ok(());
        }
        let mut words = command.split(' ');
        let program = words.next().context("a command has a first word")?;
        let output = Command::new(program).args(words).current_dir(&self.directory).output();
        let output = output.with_context(|| format!("run {command}"))?;
        ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        self.write(name, || output.stdout)
    }
}

/// A C program of this many functions, each different from the others.
fn c_program(functions: u64) -> String {
    let mut numbers = data::Numbers::new(11);
    let mut text =
        String::from("#include <stdio.h>\n#include <string.h>\nstruct pair { int a; double b; };\n");
    for index in 0..functions {
        let (a, b, c) = (numbers.below(1000), 1 + numbers.below(63), 3 + numbers.below(40));
        text += &format!(
            "int work{index}(struct pair *p, const char *s, unsigned n)\n{{\n    int sum = {a};\n    \
             for (unsigned i = 0; i < n; i++) {{\n        sum += (s[i % {c}] ^ {a}) << (i % {b} & 15);\n        \
             switch (sum % {c}) {{ case 0: p->a++; break; case 1: p->b *= 1.5; break; case 2: sum -= i; }}\n        \
             p[i & 3].b += sum * 0.{a}1;\n    }}\n    if (strlen(s) > {b}) return p->a;\n    \
             printf(\"%d %s\\n\", sum, s);\n    return sum / (int)(n + {b});\n}}\n"
        );
    }
    text
}
