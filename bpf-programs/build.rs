//! Compiles each `<name>/<name>.bpf.c` with clang, and takes the sizes and offsets of the records from `<name>/<name>.h`,
//! so that the header is the only place where the layout is written down.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const PROGRAMS: &[&str] = &["block_io", "cpu_profile", "file_io", "flight", "io_stall", "oom", "tasks", "waitrate"];

const INSTALL: &str = "install what compiles BPF programs: apt-get install clang llvm libbpf-dev";

/// A struct of a header, its fields, and constants, as they are to be known in Rust.
struct Layout {
    program: &'static str,
    name: &'static str,
    fields: &'static [&'static str],
    constants: &'static [&'static str],
}

const LAYOUTS: &[Layout] = &[
    Layout {
        program: "block_io",
        name: "block_io_user",
        fields: &["cgroup", "hierarchy", "tgid"],
        constants: &[
            "BLOCK_IO_DISKS",
            "BLOCK_IO_SLOTS",
            "BLOCK_IO_DIRECTIONS",
            "BLOCK_IO_PHASES",
            "BLOCK_IO_USERS_FULL",
            "BLOCK_IO_FLIGHTS_FULL",
            "BLOCK_IO_BEGUN_BEFORE",
            "BLOCK_IO_KERNEL_THREAD",
            "BLOCK_IO_BEGINS_MADE",
            "BLOCK_IO_BEGINS_ISSUED",
            "OWNER_UNIFIED",
            "OWNER_BLKIO",
            "OWNER_MEMORY",
        ],
    },
    Layout {
        program: "block_io",
        name: "block_io_usage",
        fields: &["bytes", "requests", "queued", "device", "queued_max", "device_max", "errors", "flags", "comm"],
        constants: &[],
    },
    Layout {
        program: "block_io",
        name: "block_io_flight",
        fields: &["issued", "bytes", "user", "flags", "comm"],
        constants: &[],
    },
    Layout {
        program: "cpu_profile",
        name: "cpu_profile_sample",
        fields: &[
            "time",
            "slots",
            "address_space",
            "cgroups",
            "tgid",
            "tid",
            "kernel_bytes",
            "user_bytes",
            "run_bytes",
            "kernel_error",
            "user_error",
            "comm",
        ],
        constants: &[
            "CPU_PROFILE_MAX_FRAMES",
            "CPU_PROFILE_SLOTS",
            "CPU_PROFILE_TARGETS",
            "CPU_PROFILE_MAX_DEPTH",
            "CPU_PROFILE_BUILD_ID",
            "CPU_PROFILE_HIERARCHIES",
        ],
    },
    Layout { program: "cpu_profile", name: "cpu_profile_run", fields: &["build_id", "frames"], constants: &[] },
    Layout {
        program: "cpu_profile",
        name: "cpu_profile_target",
        fields: &["cgroup", "hierarchy"],
        constants: &["CPU_PROFILE_UNIFIED", "CPU_PROFILE_CPU", "CPU_PROFILE_CPUACCT"],
    },
    Layout { program: "cpu_profile", name: "cpu_profile_counts", fields: &["taken", "ring_full"], constants: &[] },
    Layout { program: "cpu_profile", name: "cpu_profile_control", fields: &["series", "host_slots"], constants: &[] },
    Layout {
        program: "flight",
        name: "flight_segment",
        fields: &["sequence", "last", "used", "records"],
        constants: &["FLIGHT_SEGMENTS", "FLIGHT_SEGMENT_BYTES"],
    },
    Layout {
        program: "flight",
        name: "flight_cpu",
        fields: &["sequence", "forgotten", "ticks", "samples"],
        constants: &[],
    },
    Layout { program: "flight", name: "flight_ancestry", fields: &[], constants: &[] },
    Layout { program: "flight", name: "flight_image", fields: &["address_space", "tgid"], constants: &[] },
    Layout { program: "file_io", name: "inode_id", fields: &["inode", "device", "raw"], constants: &[] },
    Layout {
        program: "file_io",
        name: "inode_name",
        fields: &["inode", "bytes", "flags", "parts"],
        constants: &["INODE_NAME_CUT"],
    },
    Layout {
        program: "file_io",
        name: "file_io_key",
        fields: &["file", "tgid"],
        constants: &["FILE_IO_KINDS", "FILE_IO_VOLUMES", "FILE_IO_USAGE_FULL", "FILE_IO_CALLS_FULL"],
    },
    Layout {
        program: "file_io",
        name: "file_io_usage",
        fields: &["bytes", "calls", "time", "time_max", "cgroup", "hierarchy", "comm"],
        constants: &[],
    },
    Layout { program: "file_io", name: "file_io_call", fields: &["begun", "files", "tgid"], constants: &[] },
    Layout {
        program: "io_stall",
        name: "io_stall_key",
        fields: &["tgid", "stack"],
        constants: &["IO_STALL_WAITERS_FULL", "IO_STALL_WAITING_FULL", "IO_STALL_RING_FULL", "IO_STALL_NO_STACK"],
    },
    Layout {
        program: "io_stall",
        name: "io_stall_waiter",
        fields: &["waits", "time", "time_max", "cgroup", "hierarchy", "comm"],
        constants: &[],
    },
    Layout {
        program: "io_stall",
        name: "io_stall",
        fields: &["begun", "took", "cgroup", "hierarchy", "key", "tid", "comm", "thread"],
        constants: &[],
    },
    Layout {
        program: "oom",
        name: "oom_kill",
        fields: &[
            "time",
            "victim_memcg",
            "trigger_memcg",
            "anon_kb",
            "file_kb",
            "shmem_kb",
            "swap_kb",
            "page_tables_kb",
            "virtual_kb",
            "flags",
            "tgid",
            "tid",
            "uid",
            "oom_score_adj",
            "trigger_tgid",
            "trigger_tid",
            "comm",
            "trigger_comm",
        ],
        constants: &["OOM_VICTIM_KNOWN", "OOM_MEMORY_KNOWN", "OOM_UNIFIED"],
    },
    Layout {
        program: "tasks",
        name: "tasks_head",
        fields: &["uninterruptible", "flags"],
        constants: &["TASKS_COUNTED", "TASKS_MAX_FRAMES"],
    },
    Layout {
        program: "tasks",
        name: "tasks_task",
        fields: &["unified", "cpu", "waiting", "pid", "tid", "state", "flags", "stack_error", "stack_bytes", "comm"],
        constants: &[
            "TASKS_WAITING_KNOWN",
            "TASKS_IOWAIT",
            "TASKS_RUNNING",
            "TASKS_SLEEPING",
            "TASKS_UNINTERRUPTIBLE",
            "TASKS_STOPPED",
        ],
    },
    Layout {
        program: "waitrate",
        name: "waitrate_cell",
        fields: &[
            "run",
            "internal",
            "external",
            "throttled",
            "latency",
            "beyond",
            "waits",
            "external_cpu",
            "throttled_cpu",
        ],
        constants: &["WAITRATE_OTHERS", "WAITRATE_CGROUPS"],
    },
    Layout { program: "waitrate", name: "waitrate_pair", fields: &["victim", "holder"], constants: &[] },
    Layout { program: "waitrate", name: "waitrate_lost", fields: &["tasks", "cgroups", "pairs"], constants: &[] },
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=include");
    for name in PROGRAMS {
        let source = format!("{name}/{name}.bpf.c");
        println!("cargo::rerun-if-changed={source}");
        println!("cargo::rerun-if-changed={name}/{name}.h");
        let object = out.join(format!("{name}.o"));
        run(clang()?.args(["-g", "-Wall", "-Werror", "-c", &source, "-o"]).arg(&object))?;
        run(Command::new("llvm-strip").arg("-g").arg(&object))?;
    }
    fs::write(out.join("layout.rs"), layouts(&out)?)?;
    Ok(())
}

fn clang() -> Result<Command, Box<dyn Error>> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let kernel_arch = match arch.as_str() {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => other,
    };
    let mut clang = Command::new("clang");
    clang
        .args(["-O2", "-target", "bpf", "-mcpu=v3"])
        .arg(format!("-D__TARGET_ARCH_{kernel_arch}"))
        // Where Debian and its kin keep <asm/types.h>.
        .arg(format!("-I/usr/include/{arch}-linux-gnu"));
    Ok(clang)
}

fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("cannot run `{program}` ({error}); {INSTALL}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let missing = if text.contains("file not found") { format!("; {INSTALL}") } else { String::new() };
    Err(format!("`{program}` failed{missing}\n{text}").into())
}

/// Has the BPF compiler work out the numbers as initial values of constants, and reads them back from its assembly.
fn layouts(out: &Path) -> Result<String, Box<dyn Error>> {
    let mut source = String::from("#define AT(s, f) __builtin_offsetof(struct s, f)\n#include \"include/owner.h\"\n");
    for program in PROGRAMS {
        writeln!(source, "#include \"{program}/{program}.h\"")?;
    }
    let mut names = Vec::new();
    let mut define = |name: String, value: String| -> std::fmt::Result {
        writeln!(source, "const unsigned long long {name} = {value};")?;
        names.push(name);
        Ok(())
    };
    for Layout { program, name, fields, constants } in LAYOUTS {
        let short = name.strip_prefix(&format!("{program}_")).unwrap_or(name).to_uppercase();
        let prefix = format!("{}__{short}", program.to_uppercase());
        define(format!("{prefix}__SIZE"), format!("sizeof(struct {name})"))?;
        for field in *fields {
            define(format!("{prefix}__{}", field.to_uppercase()), format!("AT({name}, {field})"))?;
        }
        for constant in *constants {
            define(format!("VALUE__{constant}"), (*constant).to_owned())?;
        }
    }
    let file = out.join("layout.c");
    let assembly = out.join("layout.s");
    fs::write(&file, source)?;
    run(clang()?.args(["-S", "-I."]).arg(&file).arg("-o").arg(&assembly))?;
    let assembly = fs::read_to_string(assembly)?;
    let mut rust = String::new();
    for name in names {
        let value = assembly
            .lines()
            .skip_while(|line| line.split(':').next() != Some(&name))
            .nth(1)
            .and_then(|line| line.split_whitespace().nth(1))
            .and_then(|value| value.parse::<usize>().ok())
            .ok_or_else(|| format!("clang did not say what `{name}` is"))?;
        writeln!(rust, "pub(crate) const {}: usize = {value};", name.trim_start_matches("VALUE__"))?;
    }
    Ok(rust)
}
