//! Captures of other projects, crashers of decoders among them: our codec reads each message as tshark does or refuses
//! it by name, and engines of both versions take all of them without harm.
//!
//! The captures are no part of this repository: they lie in `../shared/corpora` beside it, or where CULVERT_CAPTURES says.
//! `integration/test captures` runs this where they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use ike::sim::reading::{ReadProposal, Reading, read};
use ike::sim::setup;
use ike::{Engine, Limits, Path as Way};
use integration::command::{finish, run};

const FIELDS: [&str; 20] = [
    "frame.number",
    "udp.srcport",
    "udp.dstport",
    "udp.payload",
    "isakmp.ispi",
    "isakmp.rspi",
    "isakmp.exchangetype",
    "isakmp.messageid",
    "isakmp.typepayload",
    "isakmp.prop.number",
    "isakmp.prop.protoid",
    "isakmp.trans.number",
    "isakmp.trans.id",
    "isakmp.ike.attr.type",
    "isakmp.tf.type",
    "isakmp.tf.id.encr",
    "isakmp.tf.id.dh",
    "isakmp.ike2.attr.key_length",
    "_ws.malformed",
    "_ws.expert.severity",
];
/// From this severity on a mark is an objection.
const WARNING: u32 = 0x0060_0000;

/// A datagram on one of IKE's ports, and what tshark says of it; lists of numbers by field.
struct Row {
    number: String,
    port: u16,
    payload: Vec<u8>,
    cells: BTreeMap<&'static str, Vec<u64>>,
    marked: bool,
}

#[test]
#[ignore = "needs captures of other projects: run integration/test captures"]
fn captures_are_read_as_tshark_reads_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rows = rows(&captures()?, dir.path())?;
    let (mut same, mut refused) = (0, BTreeMap::new());
    for row in &rows {
        let Some(message) = row.message() else { continue };
        match read(message) {
            Ok(reading) => {
                let compared = row.compare(&reading).with_context(|| format!("frame {}", row.number));
                // Where tshark itself gives up there is nothing to compare.
                if !row.marked {
                    compared?;
                    same += 1;
                }
            }
            Err(name) => {
                refused.entry((name, row.marked)).or_insert_with(Vec::new).push(row.number.as_str());
            }
        }
    }
    println!("{} datagrams, {same} read as tshark does, refused {refused:?}", rows.len());
    ensure!(same >= 190, "{same} messages were compared");
    Ok(())
}

#[test]
#[ignore = "needs captures of other projects: run integration/test captures"]
fn captures_harm_no_engine() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rows = rows(&captures()?, dir.path())?;
    let mut fed = 0;
    for version_1 in [false, true] {
        let now = Instant::now();
        let mut engine = Engine::new(Limits::default(), [7; 32]);
        let (ike, esp) = setup::classic();
        let connection =
            if version_1 { setup::connection_v1(1, 1, ike, &esp) } else { setup::connection(1, 1) };
        let (local, remote) = (connection.local, connection.remote);
        engine.set_connection(now, connection);
        for row in &rows {
            let port = if row.port == 4500 { 4500 } else { 500 };
            let way = Way { local: (local, port).into(), remote: (remote, port).into() };
            engine.handle_datagram(now, way, &row.payload);
            while engine.poll_output().is_some() {}
            fed += 1;
        }
        ensure!(engine.counters().get("panics").is_none(), "an SA panicked");
    }
    ensure!(fed >= 400, "{fed} datagrams");
    println!("{fed} datagrams were taken");
    Ok(())
}

fn captures() -> Result<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora");
    let folder = std::env::var_os("CULVERT_CAPTURES").map_or(beside, PathBuf::from);
    ensure!(folder.is_dir(), "no captures in {folder:?}");
    Ok(folder)
}

/// All datagrams on IKE's ports in all captures below a folder, joined into one for tshark.
fn rows(folder: &Path, dir: &Path) -> Result<Vec<Row>> {
    let found = run("find", &[path(folder)?, "-name", "*.pcap", "-o", "-name", "*.pcapng"])?;
    let mut files: Vec<&str> = found.lines().collect();
    files.sort_unstable();
    ensure!(files.len() >= 50, "{} captures", files.len());
    let joined = dir.join("joined.pcapng");
    finish(Command::new("mergecap").args(["-a", "-w"]).arg(&joined).args(&files))?;
    let mut tshark = Command::new("tshark");
    tshark.env("WIRESHARK_CONFIG_DIR", dir).arg("-n").arg("-r").arg(&joined);
    tshark.args(["-Y", "udp.port == 500 || udp.port == 4500", "-T", "fields"]);
    tshark.args(FIELDS.iter().flat_map(|field| ["-e", *field]));
    finish(&mut tshark)?.lines().map(|line| row(line).with_context(|| line.to_owned())).collect()
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

fn row(line: &str) -> Result<Row> {
    let texts: Vec<&str> = line.split('\t').collect();
    ensure!(texts.len() == FIELDS.len(), "{} fields", texts.len());
    let text =
        |name: &str| FIELDS.iter().position(|field| *field == name).and_then(|at| texts.get(at).copied());
    let text = |name: &str| text(name).with_context(|| format!("no field {name}"));
    let mut cells = BTreeMap::new();
    for name in &FIELDS[4..18] {
        cells.insert(*name, numbers(text(name)?)?);
    }
    let severe = numbers(text("_ws.expert.severity")?)?.into_iter().any(|level| level >= u64::from(WARNING));
    Ok(Row {
        number: text("frame.number")?.to_owned(),
        // The marker goes with the port of NAT traversal at either end.
        port: if [text("udp.srcport")?, text("udp.dstport")?].contains(&"4500") { 4500 } else { 500 },
        payload: octets(text("udp.payload")?)?,
        cells,
        marked: severe || !text("_ws.malformed")?.is_empty(),
    })
}

fn octets(text: &str) -> Result<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2).map(std::str::from_utf8);
    pairs.map(|pair| Ok(u8::from_str_radix(pair?, 16)?)).collect()
}

/// tshark writes octets and message ids in hexadecimal, everything else in decimal.
fn numbers(cell: &str) -> Result<Vec<u64>> {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None if text.len() == 16 => u64::from_str_radix(text, 16),
        None => text.parse(),
    };
    cell.split(',').filter(|text| !text.is_empty()).map(|text| Ok(number(text)?)).collect()
}

impl Row {
    /// The message without the marker; `None` for ESP and keepalives.
    fn message(&self) -> Option<&[u8]> {
        match self.port {
            4500 => self.payload.strip_prefix(&[0; 4]),
            _ => Some(&self.payload),
        }
    }

    fn compare(&self, reading: &Reading) -> Result<()> {
        let Reading { version, spis, exchange, message_id, content } = reading;
        let proposals = &content.proposals;
        self.same("isakmp.ispi", [spis.0])?;
        self.same("isakmp.rspi", [spis.1])?;
        self.same("isakmp.exchangetype", [u64::from(*exchange)])?;
        self.same("isakmp.messageid", [u64::from(*message_id)])?;
        self.same("isakmp.typepayload", nested(&content.payloads, proposals))?;
        self.same("isakmp.prop.number", proposals.iter().map(|found| u64::from(found.number)))?;
        self.same("isakmp.prop.protoid", proposals.iter().map(|found| u64::from(found.protocol)))?;
        let transforms = || proposals.iter().flat_map(|proposal| &proposal.transforms);
        let kinds = transforms().map(|found| u64::from(found.kind));
        let of_kind =
            |kind| transforms().filter(move |found| found.kind == kind).map(|found| u64::from(found.id));
        let attributes = || transforms().flat_map(|found| &found.attributes);
        match version {
            1 => {
                self.same("isakmp.trans.number", kinds)?;
                self.same("isakmp.trans.id", transforms().map(|found| u64::from(found.id)))?;
                self.same("isakmp.ike.attr.type", attributes().map(|(kind, _)| u64::from(*kind)))
            }
            2 => {
                self.same("isakmp.tf.type", kinds)?;
                self.same("isakmp.tf.id.encr", of_kind(1))?;
                self.same("isakmp.tf.id.dh", of_kind(4))?;
                self.same("isakmp.ike2.attr.key_length", attributes().filter_map(|(_, bits)| *bits))
            }
            other => bail!("version {other}"),
        }
    }

    fn same(&self, field: &str, ours: impl IntoIterator<Item = u64>) -> Result<()> {
        let ours: Vec<u64> = ours.into_iter().collect();
        let theirs = self.cells.get(field).with_context(|| format!("no field {field}"))?;
        ensure!(*theirs == ours, "{field}: tshark reads {theirs:?}, we {ours:?}");
        Ok(())
    }
}

/// tshark lists proposals and transforms among the payloads, where they stand.
fn nested(payloads: &[u8], proposals: &[ReadProposal]) -> Vec<u64> {
    const SA: [u8; 2] = [1, 33];
    const PROPOSAL: u64 = 2;
    const TRANSFORM: u64 = 3;
    let mut listed = Vec::new();
    for kind in payloads {
        listed.push(u64::from(*kind));
        if SA.contains(kind) {
            for proposal in proposals {
                listed.push(PROPOSAL);
                listed.extend(std::iter::repeat_n(TRANSFORM, proposal.transforms.len()));
            }
        }
    }
    listed
}
