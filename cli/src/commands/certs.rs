//! `galen certs init`: a working set of certificates for trials, and what to write into the settings to use them.
//!
//! Nothing that is there is overwritten: the directory must not exist, or be empty. It and the keys are for their owner
//! alone.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use galen_certificates::{Authority, Issued, Subject, Validity};

use crate::{
    arguments::{CertsChange, CertsInit},
    error::Error,
};

/// An authority is replaced rarely, because everybody has to hear of it.
const AUTHORITY_DAYS: u32 = 3650;
/// The name of who asks and operates.
const USER: &str = "operator";

pub(crate) fn run(change: CertsChange) -> Result<(), Error> {
    match change {
        CertsChange::Init(init) => self::init(&init),
    }
}

fn init(init: &CertsInit) -> Result<(), Error> {
    let (authority_days, days) = (Validity::days(AUTHORITY_DAYS), Validity::days(init.days));
    let authority = Authority::new(&init.trust_domain, authority_days)?;
    let mut set = vec![("aggregator".to_owned(), authority.issue(Subject::Aggregator(&init.host), days)?)];
    set.push((format!("user-{USER}"), authority.issue(Subject::User(USER), days)?));
    let mut nodes: Vec<&str> = init.node.iter().map(String::as_str).collect();
    nodes.sort_unstable();
    nodes.dedup();
    for node in &nodes {
        set.push((format!("node-{node}"), authority.issue(Subject::Node(node), days)?));
    }
    let dir = claim(&init.dir)?;
    write(&dir, "ca.pem", authority.certificate(), 0o644)?;
    write(&dir, "ca.key", &authority.key(), 0o600)?;
    for (name, Issued { certificate, key, .. }) in &set {
        write(&dir, &format!("{name}.pem"), certificate, 0o644)?;
        write(&dir, &format!("{name}.key"), key, 0o600)?;
    }
    Ok(io::stdout().write_all(told(&dir, init, &nodes).as_bytes())?)
}

/// The directory, made now or empty; by its full path, as settings need it.
fn claim(dir: &Path) -> Result<PathBuf, Error> {
    let failed = |source| Error::Write { path: dir.to_owned(), source };
    DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(failed)?;
    if fs::read_dir(dir).map_err(failed)?.next().is_some() {
        return Err(Error::Usage(format!("`{}` is not empty: nothing in it is overwritten", dir.display())));
    }
    dir.canonicalize().map_err(failed)
}

fn write(dir: &Path, name: &str, content: &str, mode: u32) -> Result<(), Error> {
    let path = dir.join(name);
    let written = || {
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()
    };
    written().map_err(|source| Error::Write { path: path.clone(), source })
}

/// What to do with the set.
fn told(dir: &Path, init: &CertsInit, nodes: &[&str]) -> String {
    let (at, days) = (dir.display(), init.days);
    let host = init.host.first().map_or("localhost", String::as_str);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let section = |name: &str| {
        format!(
            "[tls]\ncertificate_file = \"{at}/{name}.pem\"\nkey_file = \"{at}/{name}.key\"\nca_file = \"{at}/ca.pem\"\n"
        )
    };
    // Without a host the set is for this machine.
    let listen = if host == "localhost" { "" } else { "[listen]\ngrpc = \"0.0.0.0:7400\"\n\n" };
    let mut text = format!(
        "Certificates for {days} days are in {at}.\nWhoever has `ca.key` can make more of them: keep it off every other machine.\n\n\
         # aggregator.toml\n{listen}{}",
        section("aggregator")
    );
    if init.trust_domain != crate::arguments::TRUST_DOMAIN {
        text += &format!("trust_domain = \"{}\"\n", init.trust_domain);
    }
    text += &format!("\n[access.users]\n{USER} = \"admin\"\n");
    for node in nodes {
        text += &format!(
            "\n# agent.toml of {node}; of the other nodes' files it needs none\nnode = \"{node}\"\n\n[aggregator]\nendpoint = \"https://{host}:7400\"\n\n{}",
            section(&format!("node-{node}"))
        );
    }
    text += &format!(
        "\n# to ask\nexport GALEN_AGGREGATOR=https://{host}:7400 GALEN_CA_FILE={at}/ca.pem\n\
         export GALEN_CERTIFICATE_FILE={at}/user-{USER}.pem GALEN_KEY_FILE={at}/user-{USER}.key\n"
    );
    text
}
