//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use galen_runtime::{Span, access::Role};

use crate::{demo::Tethered, moment::Moment};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage, or a query that cannot be read
  3  the event, its profile, the incident or the node is not there
  4  the aggregator cannot be reached
  5  the aggregator does not let you: without a good token or certificate, or with too low a role";

/// Find what happened on your machines: events, flame graphs, nodes.
#[derive(Debug, Parser)]
#[command(name = "galen", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) access: Access,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which aggregator, and who asks it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Access {
    /// The aggregator to ask: `https://` with `--ca-file` and a token or a certificate, or `http://` on this machine
    #[arg(long, global = true, value_name = "URL", env = "GALEN_AGGREGATOR", default_value = "http://127.0.0.1:7400")]
    pub(crate) aggregator: String,
    /// Certificates of the authorities that sign aggregators' certificates, PEM
    #[arg(long, global = true, value_name = "FILE", env = "GALEN_CA_FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// File with your token; without one, or for an aggregator that takes none, your certificate
    #[arg(long, global = true, value_name = "FILE", env = "GALEN_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Your certificate, PEM
    #[arg(long, global = true, value_name = "FILE", env = "GALEN_CERTIFICATE_FILE")]
    pub(crate) certificate_file: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, global = true, value_name = "FILE", env = "GALEN_KEY_FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// The name that the aggregator's certificate is for, if it is not the host of the URL
    #[arg(long, global = true, value_name = "NAME", env = "GALEN_SERVER_NAME")]
    pub(crate) server_name: Option<String>,
}

impl Access {
    /// In plaintext.
    pub(crate) fn local(aggregator: String) -> Self {
        Self { aggregator, token_file: None, ca_file: None, certificate_file: None, key_file: None, server_name: None }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Ask(Question),
    /// Make certificates
    Certs(Certs),
    /// Make tokens
    Token(Tokens),
    /// Print a completion script for a shell
    Completions { shell: Shell },
}

/// What needs an aggregator, or makes one.
#[derive(Debug, Subcommand)]
pub(crate) enum Question {
    /// List events, newest first, count them, or follow them as they come
    Events(Events),
    /// Show one event with its data
    Event(Event),
    /// Show where the time went: the profile of an event
    Flame(Flame),
    /// List what happens: events with one cause on however many nodes, joined; or follow how that changes
    Incidents(Incidents),
    /// Show one incident with its cause and examples of its events
    Incident(Incident),
    /// Show how the aggregator is
    Status(Listing),
    /// List the nodes
    Nodes(Listing),
    /// Show what became of all that was observed: delivered, lost by reason, still on the nodes, or unaccounted for
    Ledger(Ledger),
    /// List the tracers on each node: whether they work there, why not, what they caught; or change which run
    Tracers(Tracers),
    /// Have a node read its settings again
    Reload(Reload),
    /// Have a node record what its flight recorder holds
    Record(Record),
    /// Catch a real CPU burst on this machine and show it. Needs root, but for `--storm`
    Demo(Demo),
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Such as `tracer:cpuidle AND data.user_percent:>80`; all events if absent
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) query: String,
    /// Observed at this moment or later: `1h` (ago), `2026-05-01`, or `2026-05-01T12:00:00Z`
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<Moment>,
    /// Observed before this moment
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<Moment>,
    /// Events at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
    /// Oldest first
    #[arg(long)]
    pub(crate) ascending: bool,
    /// Count the values of these fields instead of listing events
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    pub(crate) count_by: Vec<String>,
    /// Show events as they are stored, from now on
    #[arg(long, short, conflicts_with_all = ["since", "until", "limit", "ascending", "count_by"])]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

#[derive(Debug, Args)]
pub(crate) struct Event {
    /// Its id, such as `web-1/00c0ffee00c0ffee/42`
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

#[derive(Debug, Args)]
pub(crate) struct Flame {
    /// Id of the event; for a trigger, the capture of the same run is shown
    #[arg(value_name = "EVENT")]
    pub(crate) id: String,
    #[arg(long, value_enum, default_value_t = Format::Terminal)]
    pub(crate) format: Format,
    /// Of the seconds before the trigger
    #[arg(long, conflicts_with_all = ["after", "diff"])]
    pub(crate) before: bool,
    /// Of the seconds after the trigger; without this the default, unless it has no samples
    #[arg(long, conflicts_with = "diff")]
    pub(crate) after: bool,
    /// What changed from before to after, in CPU time a second; with `--format svg` or `folded`
    #[arg(long)]
    pub(crate) diff: bool,
    /// Write to this file instead of the standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) output_file: Option<PathBuf>,
    /// On the terminal, leave out what has less than this share of the samples
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    pub(crate) min_percent: f64,
}

#[derive(Debug, Args)]
pub(crate) struct Incidents {
    /// In this state; several separated by commas. Open and quiet ones if absent
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) state: Vec<StateName>,
    /// Of this tracer only
    #[arg(long, value_name = "TRACER")]
    pub(crate) tracer: Option<String>,
    /// Of this workload only, such as `shop/web`
    #[arg(long, value_name = "WORKLOAD")]
    pub(crate) workload: Option<String>,
    /// Those that this node has part in
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// So bad or worse
    #[arg(long, value_enum)]
    pub(crate) severity: Option<SeverityName>,
    /// Incidents at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Show those that are not closed, then each again when it changes
    #[arg(long, short, conflicts_with_all = ["state", "limit"])]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateName {
    Open,
    Quiet,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SeverityName {
    Info,
    Warning,
    Critical,
}

#[derive(Debug, Args)]
pub(crate) struct Incident {
    /// Its id, or a fingerprint: then the newest of it
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The hottest stacks as a tree
    Terminal,
    /// A flame graph for a browser
    Svg,
    /// A stack a line, as flame graph tools read it
    Folded,
    /// For `go tool pprof`
    Pprof,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Listing {
    /// `json` is one object a line
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Ledger {
    /// Of this node only
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Tracers {
    #[command(subcommand)]
    pub(crate) change: Option<TracerChange>,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TracerChange {
    /// Let a tracer run, whatever the node's settings say
    Enable(TracerOfNode),
    /// Let a tracer not run, whatever the node's settings say
    Disable(TracerOfNode),
    /// Let the node's settings decide again
    Reset(TracerOfNode),
    /// Have a tracer capture now, whatever its rule says; `oom` has nothing to capture then
    Trigger {
        #[command(flatten)]
        which: TracerOfNode,
        /// The cgroup to capture, from the root of its hierarchy, such as `/system.slice/nginx.service`; all of the node if
        /// absent
        #[arg(long, value_name = "PATH")]
        cgroup: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TracerOfNode {
    pub(crate) tracer: String,
    #[arg(long, value_name = "NODE")]
    pub(crate) node: String,
}

#[derive(Debug, Args)]
pub(crate) struct Reload {
    pub(crate) node: String,
    /// Lay a setting over the node's own, from now on, such as `tracers.cpuidle.window=10s`; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub(crate) set: Vec<(String, String)>,
    /// Take away what `--set` has laid over; may be repeated
    #[arg(long, value_name = "KEY")]
    pub(crate) unset: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Record {
    pub(crate) node: String,
}

#[derive(Debug, Args)]
pub(crate) struct Certs {
    #[command(subcommand)]
    pub(crate) change: CertsChange,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsChange {
    /// Make an authority, and certificates of an aggregator, of nodes and of a user, for trials
    Init(CertsInit),
}

/// As aggregators have it by default.
pub(crate) const TRUST_DOMAIN: &str = "galen";

#[derive(Debug, Args)]
pub(crate) struct CertsInit {
    /// Directory for them: a new one, or an empty one
    pub(crate) dir: PathBuf,
    /// A node, by the name that its agent gives; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Vec<String>,
    /// A name or address under which agents and you reach the aggregator; may be repeated
    #[arg(long, value_name = "HOST", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub(crate) host: Vec<String>,
    /// How long the certificates hold; the authority holds for ten years
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,
    /// What the names of nodes and users begin with
    #[arg(long, value_name = "NAME", default_value = TRUST_DOMAIN)]
    pub(crate) trust_domain: String,
}

#[derive(Debug, Args)]
pub(crate) struct Tokens {
    #[command(subcommand)]
    pub(crate) change: TokensChange,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokensChange {
    /// Make a token, shown only now, and the line for the aggregator's file of tokens
    Create(TokenCreate),
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreate {
    /// Whose it is: what the audit log says
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// What it is good for: `read`, `operate` or `admin`
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Role,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("write it as KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Provoke an anomaly for each tracer, one after the other, instead of the burst alone
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) storm: Storm,
    /// End by itself after this time, with exit code 0 only if what was provoked was caught. A storm lasts this long, 60s
    /// if absent
    #[arg(long = "for", value_name = "DURATION")]
    pub(crate) limit: Option<Span>,
}

#[derive(Debug, Args)]
pub(crate) struct Storm {
    /// Let many simulated nodes tell of one cause at once, and a few of another, and count the incidents; needs no root
    #[arg(long, conflicts_with = "all")]
    pub(crate) storm: bool,
    /// Nodes of the storm
    #[arg(long, value_name = "N", requires = "storm", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=20_000))]
    pub(crate) nodes: u32,
    /// Events a second of each
    #[arg(long, value_name = "N", requires = "storm", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rate: u32,
}

/// First argument of the demo's children. They have a parser of their own, so that neither help nor completions offer
/// what nobody types.
pub(crate) const CHILD: &str = "demo-child";

#[derive(Debug, Parser)]
#[command(name = CHILD)]
pub(crate) enum DemoChild {
    Load(galen_provoke::Arguments),
    Tethered(Tethered),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_page_names_every_command_option_and_exit_code() {
        let page = include_str!("../../docs/cli.md");
        let mut root = Arguments::command();
        root.build();
        for command in root.get_subcommands().filter(|command| command.get_name() != "help") {
            assert!(page.contains(&format!("`galen {}", command.get_name())), "{}", command.get_name());
            let arguments =
                command.get_arguments().chain(command.get_subcommands().flat_map(|sub| sub.get_arguments()));
            for argument in arguments {
                let Some(long) = argument.get_long().filter(|long| !matches!(*long, "help" | "version")) else {
                    continue;
                };
                assert!(page.contains(&format!("--{long}")), "{} --{long}", command.get_name());
            }
            for change in command.get_subcommands().filter(|change| change.get_name() != "help") {
                let name = format!("`galen {} {}", command.get_name(), change.get_name());
                assert!(page.contains(&name), "{name}");
            }
        }
        for line in EXIT_CODES.lines().skip(1) {
            let (code, meaning) = line.trim().split_once("  ").unwrap();
            assert!(page.contains(&format!("| {code} | {meaning}")), "{code} {meaning}");
        }
    }

    #[test]
    fn following_has_no_past() {
        let wrong = Arguments::try_parse_from(["galen", "events", "--follow", "--since", "1h"]);
        assert_eq!(wrong.unwrap_err().kind(), clap::error::ErrorKind::ArgumentConflict);
    }
}
