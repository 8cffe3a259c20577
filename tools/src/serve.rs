//! `paritas serve`

use crate::attach::Devices;
use crate::caller::Caller;
use crate::cli::{Serve, TlsWhen};
use crate::control::{Desk, Purpose, make_run_folder};
use crate::keeper::Keeper;
use crate::logs;
use crate::metrics::Endpoint;
use crate::names::show_size;
use crate::outcome::{Failure, Report, print};
use crate::session;
use paritas::frontend::nbd::server::{Address, Certificates, Limits, Options, Server};
use paritas::volume::Array;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) fn run(args: &Serve, json: bool) -> Result<Report, Failure> {
    let (certificates, tls_required) = encryption(args)?;
    logs::start(args.log);
    let is_handed = std::env::var_os("LISTEN_FDS").is_some();
    let array = session::open_to_serve(&Caller::Here, &args.array, args.read_only)?;
    // What only reads keeps nobody from opening the array himself.
    let desk = if args.read_only { None } else { Some(Desk::open(&array, Purpose::Clients)?) };
    let keeper = match args.read_only {
        true => None,
        false => Keeper::start(&array, args.scrub_every, args.scrub_limit)?,
    };
    let metrics = args.metrics.map(|address| Endpoint::open(address, &array)).transpose()?;
    if let Some(metrics) = &metrics {
        tracing::info!("metrics are at {}", metrics.url());
    }
    let devices = desk.as_ref().map(|desk| desk.devices().clone());
    let served = serve(args, json, &array, is_handed, certificates, tls_required, devices.as_ref());
    if let Some(devices) = devices {
        devices.end();
        devices.wait();
    }
    desk.iter().for_each(Desk::close);
    metrics.into_iter().for_each(Endpoint::close);
    let closed = array.close();
    keeper.into_iter().for_each(Keeper::dismiss);
    desk.iter().for_each(Desk::leave);
    served?;
    closed?;
    Ok(Report::silent())
}

fn serve(
    args: &Serve,
    json: bool,
    array: &Array,
    is_handed: bool,
    certificates: Option<Certificates>,
    tls_required: bool,
    devices: Option<&Arc<Devices>>,
) -> Result<(), Failure> {
    let mut addresses = args.listen.clone();
    if addresses.is_empty() && !is_handed {
        addresses.push(default_address(&array.status()?.name)?);
    }
    let is_encrypted = certificates.is_some();
    let exports = (!args.export.is_empty()).then(|| args.export.clone());
    let (read_only, limits) = (args.read_only, Limits::default());
    let options = Options { exports, read_only, certificates, tls_required, limits };
    let server = Server::bind(array, &addresses, is_handed, options, |text| tracing::warn!("{text}"))?;
    let stopper = server.stopper();
    let devices = devices.cloned();
    let stop = move || {
        stopper.stop();
        // Said again, it is tried again to take away those that were in use.
        devices.iter().for_each(|devices| devices.end());
    };
    ctrlc::set_handler(stop)
        .map_err(|error| Failure::io(format!("signals cannot be waited for: {error}")))?;
    announce(&server, json, is_encrypted)?;
    Ok(server.run()?)
}

/// Says where each volume is.
fn announce(server: &Server, json: bool, is_encrypted: bool) -> Result<(), Failure> {
    let addresses = server.addresses();
    let mut lines = Vec::new();
    let mut exports: Vec<Value> = Vec::new();
    for volume in server.exports() {
        let (name, size) = (volume.name(), volume.size()?);
        let uris: Vec<String> = addresses.iter().map(|address| address.uri(name, is_encrypted)).collect();
        lines.extend(uris.iter().map(|uri| format!("{name:<16} {:>11}  {uri}", show_size(size))));
        exports.push(json!({ "name": name, "size": size, "uris": uris }));
    }
    let listen: Vec<String> = addresses.iter().map(Address::to_string).collect();
    if lines.is_empty() {
        lines.push(format!("no volume yet, on {}", listen.join(", ")));
    }
    let said = match json {
        true => print(&format!("{:#}", json!({ "listen": listen, "exports": exports }))),
        false => print(&lines.join("\n")),
    };
    said.map_err(|error| Failure::io(format!("cannot write the answer: {error}")))
}

/// A certificate, unless nobody encrypts, and whether everybody must.
fn encryption(args: &Serve) -> Result<(Option<Certificates>, bool), Failure> {
    match (&args.tls_cert, &args.tls_key, args.tls) {
        (_, _, Some(TlsWhen::Off)) | (None, _, None) => Ok((None, false)),
        (Some(certificate), Some(key), when) => {
            let certificates = Certificates::read(certificate, key, args.tls_clients.as_deref())?;
            Ok((Some(certificates), when != Some(TlsWhen::Optional)))
        }
        _ => Err(Failure::usage("TLS needs --tls-cert and --tls-key")),
    }
}

/// Where clients of this machine look for the array.
fn default_address(name: &str) -> Result<Address, Failure> {
    // A name may have what a file name cannot.
    let file = name.replace('/', "_");
    Ok(Address::Unix(make_run_folder()?.join(format!("{file}.sock"))))
}
