//! The flame graph.

use inferno::flamegraph::{
    self, Options,
    color::{BasicPalette, Palette},
};

use super::{Difference, Error, Stack, Stacks, fold::clean};

/// Height of a frame, in pixels.
const FRAME: usize = 16;
/// What the drawing has above and below the frames, in pixels.
const MARGIN: usize = 72;

/// Draws the stacks, as wide as what shows it. The title is text, whatever it holds.
///
/// # Errors
/// None that is known: writing to memory cannot fail.
pub fn draw(stacks: &Stacks, title: &str) -> Result<Vec<u8>, Error> {
    let mut options = Options::default();
    options.title = clean(title);
    options.colors = Palette::Basic(BasicPalette::Hot);
    options.deterministic = true;
    options.hash = true;
    options.frame_height = FRAME;
    options.count_name = "samples".into();
    options.name_type = "Frame:".into();
    let mut lines: Vec<String> = stacks.stacks.iter().map(line).collect();
    if lines.is_empty() {
        lines.push("no samples 1".into());
    }
    let mut drawn = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut drawn).map_err(Error::Draw)?;
    Ok(drawn)
}

/// Draws what changed, in milliseconds of CPU a second: red is what there is more of after, blue what there is less of.
/// Widths are those of the side that used more, so that neither a burst that is over nor one that goes on vanishes.
///
/// # Errors
/// None that is known: writing to memory cannot fail.
pub fn draw_difference(difference: &Difference, title: &str) -> Result<Vec<u8>, Error> {
    let over = difference.is_over();
    let mut options = Options::default();
    options.title = clean(title);
    options.subtitle = Some(format!(
        "before against after, red: more after, blue: less; widths: {}",
        if over { "before" } else { "after" }
    ));
    options.deterministic = true;
    options.frame_height = FRAME;
    options.factor = 0.001;
    options.count_name = "ms of CPU a second".into();
    options.name_type = "Frame:".into();
    options.negate_differentials = over;
    let lines = difference.stacks().map(|(frames, before, after)| {
        let (first, second) = if over { (after, before) } else { (before, after) };
        format!("{} {first} {second}", frames_text(frames))
    });
    let mut lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        lines.push("no samples 1 1".into());
    }
    let mut drawn = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut drawn).map_err(Error::Draw)?;
    Ok(drawn)
}

/// A stack as the library reads it. It takes a number at the end of a name for a second count, so the space before one
/// is made another space.
fn frames_text(frames: &[String]) -> String {
    let mut frames = frames.join(";");
    if let Some((name, end)) = frames.rsplit_once(' ')
        && end.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        frames = format!("{name}\u{a0}{end}");
    }
    frames
}

fn line(stack: &Stack) -> String {
    format!("{} {}", frames_text(&stack.frames), stack.samples)
}

/// Height of the drawing, in pixels.
pub fn height(stacks: &Stacks) -> usize {
    (stacks.depth() + 1) * FRAME + MARGIN
}
