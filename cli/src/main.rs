//! `galen`, the command people type: it asks an aggregator, has it change what runs on nodes, and `galen demo` starts everything on this machine.
//!
//! What kernels and containers say is shown, never obeyed: text from events reaches a terminal with its control
//! characters escaped. A reader that leaves (`galen events | head`) ends the command quietly.

mod arguments;
mod bearer;
mod client;
mod commands;
mod demo;
mod error;
mod moment;
mod output;

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};
use galen_runtime::Chain;

use crate::{
    arguments::{Access, Arguments, Command, DemoChild, Question, Tracers},
    error::Error,
};

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    let done = if words.next().is_some_and(|word| word == arguments::CHILD) {
        be_child(DemoChild::parse_from(env::args_os().skip(1)))
    } else {
        run(Arguments::parse())
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            let text = output::plain(&Chain(&error).to_string()).into_owned();
            // If that fails too, nothing is left to say it to.
            let _ = writeln!(io::stderr(), "galen: {text}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn be_child(child: DemoChild) -> Result<(), Error> {
    match child {
        DemoChild::Load(load) => Ok(load.run(&demo::LOAD).map_err(demo::Error::from)?),
        DemoChild::Tethered(tethered) => demo::exec_tethered(tethered),
    }
}

fn run(arguments: Arguments) -> Result<(), Error> {
    let command = match arguments.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "galen", &mut script);
            return Ok(io::stdout().write_all(&script)?);
        }
        Command::Certs(certs) => return commands::certs::run(certs.change),
        Command::Token(tokens) => return commands::token::run(tokens.change),
        Command::Ask(question) => question,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask(&arguments.access, command))
}

async fn ask(access: &Access, question: Question) -> Result<(), Error> {
    let connect = || client::connect(access);
    let control = || client::control(access);
    match question {
        Question::Events(events) => commands::events::run(connect().await?, events).await,
        Question::Event(event) => commands::event::run(connect().await?, event).await,
        Question::Flame(flame) => commands::flame::run(connect().await?, flame).await,
        Question::Incidents(incidents) => commands::incidents::run(client::incidents(access).await?, incidents).await,
        Question::Incident(incident) => commands::incidents::show(client::incidents(access).await?, incident).await,
        Question::Status(status) => commands::status::run(connect().await?, status).await,
        Question::Nodes(nodes) => commands::nodes::run(connect().await?, nodes).await,
        Question::Ledger(ledger) => commands::ledger::run(connect().await?, ledger).await,
        Question::Tracers(Tracers { change: None, listing }) => commands::tracers::run(connect().await?, listing).await,
        Question::Tracers(Tracers { change: Some(change), .. }) => {
            commands::control::tracer(control().await?, change).await
        }
        Question::Reload(reload) => commands::control::reload(control().await?, reload).await,
        Question::Record(record) => commands::control::record(control().await?, record).await,
        Question::Demo(demo) => demo::run(demo).await,
    }
}
