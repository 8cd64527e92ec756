//! From what somebody sent to what is to be done: pure.

mod callback;
pub mod grammar;

use crate::telegram::types::{Message, utf16_split};
use grammar::{FieldMistake, Fields};

pub use callback::{BUTTON_PREFIX, button_data, page_of};

/// A command by its name: `<name>__logistic__package`, or the name alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `help`
    Help,
    /// `list`
    List,
    /// `get`
    Get,
    /// `new`
    New,
    /// `edit`
    Edit,
    /// `delete`
    Delete,
}

impl Kind {
    /// All of them, in the order of the help.
    pub const ALL: [Self; 6] = [Self::Help, Self::List, Self::Get, Self::New, Self::Edit, Self::Delete];

    /// The first part of its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Help => "help",
            Self::List => "list",
            Self::Get => "get",
            Self::New => "new",
            Self::Edit => "edit",
            Self::Delete => "delete",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it changes packages.
    #[must_use]
    pub fn changes(self) -> bool {
        matches!(self, Self::New | Self::Edit | Self::Delete)
    }
}

/// What somebody wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// The general help.
    Start,
    /// The help of packages.
    Help,
    /// The first page.
    List,
    /// One package.
    Get(u64),
    /// Make one; every field is there.
    New(Fields),
    /// Change one; one field at least is there.
    Edit(u64, Fields),
    /// Remove one.
    Delete(u64),
}

/// A command that cannot be carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Mistake {
    /// No command has that name.
    UnknownCommand(String),
    /// There is no id, or something else behind the command.
    NotAnId(Kind),
    /// The id is 0.
    ZeroId,
    /// New has other than four fields.
    FieldCount,
    /// The first part of edit is no id.
    NotAnEditId(String),
    /// Edit names no field.
    NothingToChange,
    /// A field is wrong.
    Field(Kind, FieldMistake),
}

/// Where a message leads.
#[derive(Debug, Clone, PartialEq)]
pub enum Route {
    /// To no reply.
    Nowhere,
    /// To a command.
    Command(Command),
    /// To a reply that says what is wrong.
    Mistake(Mistake),
}

/// Judges a message. `username` is the bot's own.
#[must_use]
pub fn message(message: &Message, username: &str) -> Route {
    let Some(typed) = Typed::read(message) else {
        // In a group people talk to each other.
        return if message.chat.is_private() { Route::Command(Command::Start) } else { Route::Nowhere };
    };
    if typed.addressee.is_some_and(|addressee| !addressee.eq_ignore_ascii_case(username)) {
        return Route::Nowhere;
    }
    let name = typed.name.to_lowercase();
    match Name::parse(&name) {
        Name::General => Route::Command(Command::Start),
        Name::Package(kind) => match command(kind, typed.arguments) {
            Ok(command) => Route::Command(command),
            Err(mistake) => Route::Mistake(mistake),
        },
        // In a group it may be meant for another bot, which hears it as well.
        Name::Unknown { ours } if ours || message.chat.is_private() || typed.addressee.is_some() => {
            Route::Mistake(Mistake::UnknownCommand(typed.name.to_owned()))
        }
        Name::Unknown { .. } => Route::Nowhere,
    }
}

/// A command as it was typed.
struct Typed<'a> {
    name: &'a str,
    /// Behind an `@`.
    addressee: Option<&'a str>,
    arguments: &'a str,
}

impl<'a> Typed<'a> {
    /// Telegram marks commands; one counts at the very beginning only.
    fn read(message: &'a Message) -> Option<Self> {
        let text = message.text.as_deref()?;
        let entity =
            message.entities.iter().find(|entity| entity.kind == "bot_command" && entity.offset == 0)?;
        let (command, arguments) = utf16_split(text, entity.length);
        let command = command.strip_prefix('/').unwrap_or(command);
        let (name, addressee) = match command.split_once('@') {
            Some((name, addressee)) => (name, Some(addressee)),
            None => (command, None),
        };
        Some(Self { name, addressee, arguments: arguments.trim() })
    }
}

enum Name {
    General,
    Package(Kind),
    /// `ours`: it is of packages, so that no other bot has it.
    Unknown {
        ours: bool,
    },
}

impl Name {
    fn parse(name: &str) -> Self {
        let kind = match name.splitn(3, "__").collect::<Vec<_>>().as_slice() {
            ["start" | "help"] => return Self::General,
            [name] | [name, "logistic", "package"] => Kind::named(name),
            _ => None,
        };
        kind.map_or(Self::Unknown { ours: name.ends_with("__logistic__package") }, Self::Package)
    }
}

fn command(kind: Kind, arguments: &str) -> Result<Command, Mistake> {
    let id = || match grammar::id(arguments) {
        None => Err(Mistake::NotAnId(kind)),
        Some(0) => Err(Mistake::ZeroId),
        Some(id) => Ok(id),
    };
    match kind {
        Kind::Help => Ok(Command::Help),
        Kind::List => Ok(Command::List),
        Kind::Get => id().map(Command::Get),
        Kind::Delete => id().map(Command::Delete),
        Kind::New => new(arguments),
        Kind::Edit => edit(arguments),
    }
}

fn new(arguments: &str) -> Result<Command, Mistake> {
    let parts = grammar::parts(arguments);
    if parts.len() != grammar::Field::ALL.len() {
        return Err(Mistake::FieldCount);
    }
    // Four parts, none of them unknown or there twice, are all four fields.
    Fields::read(&parts).map(Command::New).map_err(|mistake| Mistake::Field(Kind::New, mistake))
}

fn edit(arguments: &str) -> Result<Command, Mistake> {
    let (first, rest) = arguments.split_once(';').unwrap_or((arguments, ""));
    let id = grammar::id(first.trim()).ok_or_else(|| Mistake::NotAnEditId(first.to_owned()))?;
    let fields =
        Fields::read(&grammar::parts(rest)).map_err(|mistake| Mistake::Field(Kind::Edit, mistake))?;
    match (id, fields.is_empty()) {
        (0, _) => Err(Mistake::ZeroId),
        (_, true) => Err(Mistake::NothingToChange),
        (id, false) => Ok(Command::Edit(id, fields)),
    }
}

#[cfg(test)]
mod tests;
