//! Names of kernel addresses, in one pass through `/proc/kallsyms`.
//!
//! The file has 120,000 lines and more; a table of them costs tens of megabytes for the few hundred addresses of a
//! profile. So the addresses are the table, and the file streams past: each symbol is offered to the lowest address that
//! is not below it. Writing the file costs the kernel some 45 ms, which no reader can avoid.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader},
};

const KALLSYMS: &str = "/proc/kallsyms";

/// The functions that the addresses are in; what no function has is left out. It reads a file of some megabytes.
pub fn functions(mut addresses: Vec<u64>) -> HashMap<u64, String> {
    addresses.sort_unstable();
    addresses.dedup();
    let names = names(&addresses);
    addresses.into_iter().zip(names).filter_map(|(address, name)| Some((address, name?))).collect()
}

/// `addresses` in ascending order; the result is in the same order. An address that no function has is `None`.
pub(crate) fn names(addresses: &[u64]) -> Vec<Option<String>> {
    if addresses.is_empty() {
        return Vec::new();
    }
    match File::open(KALLSYMS) {
        Ok(file) => resolve(BufReader::with_capacity(1 << 16, file), addresses),
        Err(error) => {
            tracing::warn!(%error, "cannot open {KALLSYMS}: kernel functions have no names");
            vec![None; addresses.len()]
        }
    }
}

#[derive(Default, Clone)]
struct Candidate {
    address: u64,
    /// As in the file: `name`, or `name\t[module]`.
    name: Vec<u8>,
}

/// Shows each symbol of the running kernel: address, kind, and `name` or `name\t[module]`.
pub(crate) fn each_kernel_symbol(see: impl FnMut(u64, u8, &[u8])) -> io::Result<()> {
    each(BufReader::with_capacity(1 << 16, File::open(KALLSYMS)?), see)
}

fn each(mut symbols: impl BufRead, mut see: impl FnMut(u64, u8, &[u8])) -> io::Result<()> {
    let mut line = Vec::with_capacity(256);
    loop {
        line.clear();
        if symbols.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if let Some((address, kind, name)) = parse(&line) {
            see(address, kind, name);
        }
    }
}

fn resolve(symbols: impl BufRead, addresses: &[u64]) -> Vec<Option<String>> {
    let mut best = vec![Candidate::default(); addresses.len()];
    // What lies behind the text of the kernel (modules aside) is freed init code, trampolines and BPF programs.
    let mut end_of_text = u64::MAX;
    let read = each(symbols, |address, kind, name| {
        if name == b"_etext" {
            end_of_text = address;
        }
        if !matches!(kind, b't' | b'T' | b'w' | b'W') {
            return;
        }
        let at = addresses.partition_point(|wanted| *wanted < address);
        let Some(best) = best.get_mut(at) else { return };
        if address > best.address {
            best.address = address;
            best.name.clear();
            best.name.extend_from_slice(name);
        }
    });
    if let Err(error) = read {
        tracing::warn!(%error, "{KALLSYMS} broke off: kernel functions may have no names");
    }

    let mut nearest = Candidate::default();
    let mut names = Vec::with_capacity(addresses.len());
    for (address, candidate) in addresses.iter().zip(best) {
        if candidate.address > nearest.address {
            nearest = candidate;
        }
        let in_module = nearest.name.contains(&b'\t');
        // Where addresses are hidden, each symbol is at 0 and nothing is nearest.
        let known = nearest.address != 0 && (in_module || *address < end_of_text);
        names.push(known.then(|| String::from_utf8_lossy(&nearest.name).replace('\t', " ")));
    }
    names
}

fn parse(line: &[u8]) -> Option<(u64, u8, &[u8])> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let space = line.iter().position(|byte| *byte == b' ')?;
    let mut address = 0_u64;
    for digit in &line[..space] {
        let value = (*digit as char).to_digit(16)?;
        address = address << 4 | u64::from(value);
    }
    match line.get(space + 1..)? {
        [kind, b' ', name @ ..] => Some((address, *kind, name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\
0000000000000010 A per_cpu_thing
ffffffff81000000 T _text
ffffffff81000100 t inner
ffffffff81000200 T outer
ffffffff81000280 d data
ffffffff81000300 T _etext
ffffffff81000900 T _einittext
ffffffffc0000000 t in_module\t[nf_tables]
ffffffffc0001000 t ftrace_trampoline\t[__builtin__ftrace]
";

    #[test]
    fn the_nearest_function_below_is_found() {
        let wanted = [0x20, 0xffff_ffff_8100_01ff, 0xffff_ffff_8100_0200, 0xffff_ffff_8100_0290, 0xffff_ffff_c000_0004];
        let names = resolve(TEXT, &wanted);
        let names: Vec<_> = names.iter().map(Option::as_deref).collect();
        assert_eq!(names, [None, Some("inner"), Some("outer"), Some("outer"), Some("in_module [nf_tables]")]);
    }

    #[test]
    fn code_behind_the_text_is_not_given_a_wrong_name() {
        assert_eq!(resolve(TEXT, &[0xffff_ffff_8100_0400, 0xffff_ffff_8100_1000]), [None, None]);
    }

    #[test]
    fn hidden_addresses_name_nothing() {
        assert_eq!(resolve(&b"0000000000000000 T schedule\n"[..], &[0xffff_ffff_8100_0400]), [None]);
    }

    #[test]
    fn a_function_of_the_running_kernel_has_its_name() {
        let text = std::fs::read_to_string(KALLSYMS).unwrap();
        let line = text.lines().find(|line| line.ends_with(" schedule")).unwrap();
        let address = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
        assert_ne!(address, 0, "run as root");
        assert_eq!(names(&[address + 4]), [Some("schedule".to_owned())]);
    }
}
