//! `galen flame`: the profile of an event, on the terminal or as a file.

use std::{
    fs,
    io::{self, IsTerminal, Write},
};

use galen_proto::v1::{GetProfileRequest, ProfileFormat, ProfilePart};

use crate::{
    arguments::{Flame, Format},
    client::Client,
    error::Error,
    output::{StackTree, Style},
};

pub(crate) async fn run(mut client: Client, arguments: Flame) -> Result<(), Error> {
    if arguments.format == Format::Pprof && arguments.output_file.is_none() && io::stdout().is_terminal() {
        return Err(Error::Usage("pprof is not for a terminal: give `--output-file FILE`".into()));
    }
    if !(0.0..=100.0).contains(&arguments.min_percent) {
        return Err(Error::Usage("--min-percent takes a number from 0 to 100".into()));
    }
    let format = match arguments.format {
        Format::Terminal | Format::Folded => ProfileFormat::Folded,
        Format::Svg => ProfileFormat::Svg,
        Format::Pprof => ProfileFormat::Pprof,
    };
    let part = match arguments {
        Flame { before: true, .. } => ProfilePart::Before,
        Flame { after: true, .. } => ProfilePart::After,
        Flame { diff: true, format: Format::Terminal | Format::Pprof, .. } => {
            return Err(Error::Usage("a difference is for `--format svg` or `--format folded`".into()));
        }
        Flame { diff: true, .. } => ProfilePart::Difference,
        _ => ProfilePart::Unspecified,
    };
    let request = GetProfileRequest { id: arguments.id, format: format.into(), part: part.into() };
    let mut content = client.get_profile(request).await?.into_inner().content.to_vec();
    if arguments.format == Format::Terminal {
        let folded = String::from_utf8(content).map_err(|_| Error::Profile("it is not text"))?;
        let style = if arguments.output_file.is_none() { Style::of_stdout() } else { Style::none() };
        content = Vec::new();
        StackTree::from_folded(&folded)?.write(&mut content, style, arguments.min_percent, usize::MAX)?;
    }
    match arguments.output_file {
        Some(path) => fs::write(&path, content).map_err(|source| Error::Write { path, source }),
        None => Ok(io::stdout().lock().write_all(&content)?),
    }
}
