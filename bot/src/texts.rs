//! Every text that people see, in one place.
//!
//! The short ones have stood in chats and in people's heads for years and stay as they are. What people typed is never
//! markup: texts have entities where something stands out, and no `parse_mode`.

use crate::packages::Package;
use crate::rich::Rich;
use crate::route::grammar::{Field, FieldMistake};
use crate::route::{Kind, Mistake};

/// The heading of a page of the list; the blank at its end has always been there.
const LIST_HEADING: &str = "Вот список упаковок: \n";
/// Of the button that leads back.
pub const BACK: &str = "⬅️ Назад";
/// Of the button that leads on.
pub const NEXT: &str = "Вперёд ➡️";
/// Every text about a failed service has these words.
const SERVICE_ERROR: &str = "Ошибка сервиса";
/// So much of what somebody typed is shown again.
const ECHO_CHARS_MAX: usize = 64;

const NEW_EXAMPLE: &str =
    "/new__logistic__package название=ведро; материал=пластик; объём=700; многоразовая=да";
const EDIT_EXAMPLE: &str = "/edit__logistic__package 15; объём=750; многоразовая=нет";

/// What the bot does, in the menu of commands.
pub const COMMANDS: [(Kind, &str); 6] = [
    (Kind::Help, "Все команды с примерами"),
    (Kind::List, "Список упаковок"),
    (Kind::Get, "Показать упаковку по номеру"),
    (Kind::New, "Добавить упаковку"),
    (Kind::Edit, "Изменить упаковку"),
    (Kind::Delete, "Удалить упаковку"),
];

/// What an empty chat shows.
pub const DESCRIPTION: &str =
    "Показывает, добавляет, изменяет и удаляет упаковки. Начните с /help__logistic__package";

/// What `/start` and everything that is no command lead to.
#[must_use]
pub fn general_help() -> Rich {
    Rich::text(
        "Здравствуйте! Я показываю упаковки и помогаю их менять.\n\n\
         Список упаковок: /list__logistic__package\n\
         Все команды с примерами: /help__logistic__package",
    )
}

/// All commands.
#[must_use]
pub fn help() -> Rich {
    Rich::text("🔹 /help__logistic__package — эта справка\n🔹 /list__logistic__package — список упаковок\n🔹 ")
        .code("/get__logistic__package 15")
        .then(" — показать упаковку по номеру [id]\n🔹 ")
        .code("/delete__logistic__package 15")
        .then(" — удалить её\n🔹 Добавить упаковку, все четыре поля: название, материал, объём, многоразовая. Например, пластиковое ведро на 700 мл, многоразовое:\n")
        .code(NEW_EXAMPLE)
        .then("\n🔹 Изменить упаковку; достаточно тех полей, которые меняются. Например, упаковке 15 дать объём 750 мл и сделать её одноразовой:\n")
        .code(EDIT_EXAMPLE)
        .then(
            "\n\nПоля разделяет «;». Объём — в миллилитрах, без единицы. Многоразовая — «да» или «нет».\n\
             Примеры копируются нажатием.",
        )
}

/// The sentence that shows how a command is written.
fn usage(kind: Kind) -> Rich {
    let example = match kind {
        Kind::Help => "/help__logistic__package",
        Kind::List => "/list__logistic__package",
        Kind::Get => "/get__logistic__package 15",
        Kind::Delete => "/delete__logistic__package 15",
        Kind::New => NEW_EXAMPLE,
        Kind::Edit => EDIT_EXAMPLE,
    };
    Rich::text("\nПример: ").code(example)
}

/// What is wrong with a command, and how it is written.
#[must_use]
pub fn mistake(mistake: &Mistake) -> Rich {
    match mistake {
        Mistake::UnknownCommand(name) => {
            Rich::text(format!("Нет такой команды: /{}\nВсе команды: /help__logistic__package", echo(name)))
        }
        Mistake::NotAnId(kind) => Rich::text("Некорректный запрос: нужен номер упаковки").and(usage(*kind)),
        Mistake::ZeroId => Rich::text(wrong_argument("PackageID")),
        Mistake::FieldCount => {
            Rich::text("неверное количество аргументов: нужны четыре поля, между ними «;»")
                .and(usage(Kind::New))
        }
        Mistake::NotAnEditId(typed) => {
            Rich::text(format!("идентификатор не может быть \"{}\"", echo(typed))).and(usage(Kind::Edit))
        }
        Mistake::NothingToChange => {
            Rich::text("Нечего изменить: назовите хотя бы одно поле").and(usage(Kind::Edit))
        }
        Mistake::Field(kind, mistake) => field_mistake(mistake).and(usage(*kind)),
    }
}

fn field_mistake(mistake: &FieldMistake) -> Rich {
    Rich::text(match mistake {
        FieldMistake::Unknown(name) => {
            format!("{}: поля — название, материал, объём, многоразовая", wrong_argument(&echo(name)))
        }
        FieldMistake::Twice(field) => format!("{}: поле названо дважды", wrong_argument(field.label())),
        FieldMistake::Value(field) => format!("{}: {}", wrong_argument(field.label()), expected(*field)),
    })
}

fn expected(field: Field) -> &'static str {
    match field {
        Field::Title | Field::Material => "нужно от 1 до 32 знаков",
        Field::Volume => "нужно число больше нуля, в миллилитрах, без единицы",
        Field::Reusable => "нужно «да» или «нет»",
    }
}

fn wrong_argument(what: &str) -> String {
    format!("Некорректный аргумент: \"{what}\"")
}

/// The package API has refused a field, by its own name for it.
#[must_use]
pub fn refused_field(field: &str) -> Rich {
    let label = match field {
        "Title" => Field::Title.label(),
        "Material" => Field::Material.label(),
        "MaximumVolume" => Field::Volume.label(),
        "Reusable" => Field::Reusable.label(),
        other => other,
    };
    Rich::text(wrong_argument(&echo(label)))
}

/// One package.
#[must_use]
pub fn package(package: &Package) -> Rich {
    Rich::text(format!(
        "Название: {}\nМатериал: {}\nМаксимальный объём: {}\nМногоразовая: {}\nid: {}",
        one_line(&package.title),
        one_line(&package.material),
        volume(package.volume),
        if package.reusable { "да" } else { "нет" },
        package.id
    ))
}

/// A package that was made.
#[must_use]
pub fn created(id: u64) -> Rich {
    Rich::text(format!("Добавлена новая упаковка [id: {id}]"))
}

/// A change or removal that succeeded, or that the service says it has not made.
#[must_use]
pub fn changed(kind: Kind, id: u64, done: bool) -> Rich {
    let what = if kind == Kind::Delete { "удалена" } else { "отредактирована" };
    Rich::text(format!("Упаковка ID={id} {} {what}", if done { "успешно" } else { "НЕ" }))
}

/// A package that is not there: get writes its number otherwise than edit and delete.
#[must_use]
pub fn not_found(kind: Kind, id: u64) -> Rich {
    let equals = if kind.changes() { "=" } else { ": " };
    Rich::text(format!("Упаковка [id{equals}{id}] не найдена"))
}

/// A page of the list, whose first package is the one after `offset`.
#[must_use]
pub fn page(offset: u64, packages: &[Package]) -> Rich {
    if packages.is_empty() {
        return Rich::text(format!("{LIST_HEADING}\nСписок пуст: упаковок пока нет.\nДобавить: "))
            .code(NEW_EXAMPLE);
    }
    let lines = packages.iter().zip(offset.saturating_add(1)..);
    let lines =
        lines.map(|(package, nth)| format!("\n{nth}. {} [id: {}]", one_line(&package.title), package.id));
    Rich::text(LIST_HEADING.to_owned() + &lines.collect::<String>())
}

/// The service is away or has too much to do. Of a change it may be unknown whether it was made.
#[must_use]
pub fn away(kind: Kind) -> Rich {
    let advice = if kind.changes() {
        " Прежде чем повторить, проверьте, не сделано ли изменение."
    } else {
        ""
    };
    Rich::text(format!("{SERVICE_ERROR}: сейчас он недоступен. Попробуйте позже.{advice}"))
}

/// The service did not answer in time.
#[must_use]
pub fn unanswered(kind: Kind) -> Rich {
    Rich::text(if kind.changes() {
        format!(
            "{SERVICE_ERROR}: он не ответил вовремя, и неизвестно, сделано ли изменение. Проверьте, прежде чем повторить: \
             /list__logistic__package"
        )
    } else {
        format!("{SERVICE_ERROR}: он не ответил вовремя. Попробуйте позже.")
    })
}

/// The service has failed, or does not let the bot in: nothing that a user can mend.
#[must_use]
pub fn failed(trace_id: &str) -> Rich {
    Rich::text(format!("{SERVICE_ERROR}. Если будете о ней сообщать, назовите код: ")).code(trace_id)
}

/// Somebody who may not change packages has tried to.
#[must_use]
pub fn forbidden(user_id: i64, chat_id: i64) -> Rich {
    Rich::text(format!(
        "Вам не разрешено менять упаковки. Разрешить может тот, кто запускает бота: user {user_id}, chat {chat_id}."
    ))
}

/// A button that is none of ours, or whose message is gone.
pub const OLD_BUTTON: &str =
    "Эта кнопка больше не работает. Откройте список заново: /list__logistic__package";

/// Millilitres up to 1000, litres above, with three decimals at most.
fn volume(millilitres: f32) -> String {
    // By way of its shortest decimal: 700.1 is meant, not 700.0999755859375.
    let exact: f64 = millilitres.to_string().parse().unwrap_or_default();
    let (value, unit) = if exact > 1000.0 { (exact / 1000.0, "л") } else { (exact, "мл") };
    let digits = format!("{value:.3}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.').replace('.', ",");
    if digits == "0" && exact > 0.0 {
        format!("меньше 0,001 {unit}")
    } else {
        format!("{digits} {unit}")
    }
}

/// Control characters as blanks: a line break in a title would forge a line.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c })
        .collect()
}

/// The beginning of what somebody typed, on one line.
fn echo(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(ECHO_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests;
