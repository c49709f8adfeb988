//! `history`.

use super::template::Format;
use super::{App, local, output, units};
use crate::image::{HistoryStep, Store};
use anyhow::{Result, anyhow};
use clap::{ArgAction, Args};
use jiff::Timestamp;
use serde_json::{Value, json};

/// `history`.
#[derive(Debug, Args)]
#[command(after_help = "\
The last step comes first. A step whose image is not here, because it was made elsewhere, is called <missing>.
Templates know .ID .CreatedSince .CreatedAt .CreatedBy .Size .Comment.")]
pub struct HistoryArgs {
    /// A Go template, `json`, or `table` and a template
    #[arg(long, default_value = "", hide_default_value = true)]
    format: String,
    /// Show ages and sizes in words; -H=false shows moments and bytes
    #[arg(short = 'H', long, default_value_t = true, default_missing_value = "true", action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, hide_default_value = true, value_name = "bool")]
    human: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Show only ids
    #[arg(short, long)]
    quiet: bool,
    /// Name or id
    image: String,
}

const WIDTH: usize = 45;

/// `minirun history`.
pub fn run(app: &App, args: &HistoryArgs) -> Result<u8> {
    let columns = [
        ("ID", "IMAGE"),
        ("CreatedSince", if args.human { "CREATED" } else { "CREATED AT" }),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ];
    let format = Format::parse(&args.format, &columns, &["ID", "CreatedSince", "CreatedBy", "Size", "Comment"])?;
    let store = Store::open(&app.root);
    let image = store.find(&args.image)?.ok_or_else(|| anyhow!("No such image: {}", args.image))?;
    let steps = store.history(&image)?;
    if args.quiet {
        output::print(&steps.iter().map(|step| id(step, args.no_trunc) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let rows: Vec<Value> = steps.iter().map(|step| row(step, args)).collect();
    output::print(&format.rows(&rows)?)?;
    Ok(0)
}

fn id(step: &HistoryStep, full: bool) -> String {
    match &step.image {
        None => "<missing>".into(),
        Some(id) if full => id.to_string(),
        Some(id) => id.short(),
    }
}

fn row(step: &HistoryStep, args: &HistoryArgs) -> Value {
    let created: Option<Timestamp> = step.created.as_deref().and_then(|text| text.parse().ok());
    let at = created.map_or_else(|| "N/A".to_owned(), |t| local::rfc3339(t, 0));
    let since = match created {
        Some(created) if args.human => units::age(Timestamp::now().as_second() - created.as_second()) + " ago",
        _ => at.clone(),
    };
    let by = step.created_by.replace('\t', " ");
    json!({
        "ID": id(step, args.no_trunc),
        "CreatedAt": at,
        "CreatedSince": since,
        "CreatedBy": if args.no_trunc { by } else { shortened(&by) },
        "Size": if args.human { units::size(step.size) } else { step.size.to_string() },
        "Comment": step.comment,
    })
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    text.chars().take(WIDTH - 1).chain(['…']).collect()
}
