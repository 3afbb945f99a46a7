//! Bad command lines, explained in one line each.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Failure, print};

/// Prints help if that is what the "error" is, and otherwise says what is wrong.
pub(super) fn explain(error: &clap::Error) -> Result<i32, Failure> {
    let get = |kind| error.get(kind).map(value_text).unwrap_or_default();
    let argument = get(ContextKind::InvalidArg);
    let value = get(ContextKind::InvalidValue);
    let why = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return print(&error.render().to_string()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            "nothing to do: no command given".to_owned()
        }
        ErrorKind::InvalidSubcommand => format!("unknown command '{}'", get(ContextKind::InvalidSubcommand)),
        ErrorKind::UnknownArgument => format!("unknown option '{argument}'"),
        ErrorKind::InvalidValue if value.is_empty() => format!("{argument} needs a value"),
        ErrorKind::InvalidValue => {
            format!("{argument} cannot be '{value}'; it is one of: {}", get(ContextKind::ValidValue))
        }
        ErrorKind::ValueValidation => {
            let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("{argument} cannot be '{value}': {reason}")
        }
        ErrorKind::MissingRequiredArgument => format!("{argument} is missing"),
        ErrorKind::ArgumentConflict if get(ContextKind::PriorArg) == argument => {
            format!("{argument} is given twice")
        }
        ErrorKind::ArgumentConflict => {
            format!("{argument} cannot be given together with {}", get(ContextKind::PriorArg))
        }
        _ => first_line(error),
    };
    let suggestion = get(ContextKind::SuggestedArg) + &get(ContextKind::SuggestedSubcommand);
    let advice = match suggestion.as_str() {
        "" => "see endo --help".to_owned(),
        suggestion => format!("did you mean '{suggestion}'? see endo --help"),
    };
    Err(Failure::new(why).advise(advice))
}

fn value_text(value: &ContextValue) -> String {
    match value {
        ContextValue::Strings(values) => values.join(", "),
        value => value.to_string(),
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
