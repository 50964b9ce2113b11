//! The engine, as its agent sees it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use dukou_edge::{Device, Slot};
use dukou_types::{Digest, ErrorCode, Failure, Revision};
use serde_json::{Map, Value, json};

use crate::{
    artifact::{Store, TrustPolicy},
    counters::BOUNDS_US,
    events::{self, Level},
    load,
    standalone::{Folder, Surroundings},
    state::resident_bytes,
    swap::Swap,
    table::{GoldenMode, ServingTable, Source},
};

/// The folder of the store that both slots share.
const STORE: &str = "store";

/// An engine that serves one model of a folder.
pub struct EdgeDevice {
    swap: Arc<Swap>,
    /// The folder's table, as it was built: each slot's is this one with another version.
    table: ServingTable,
    trust: TrustPolicy,
    store: PathBuf,
}

impl EdgeDevice {
    /// The engine that `swap` swaps in, for a folder.
    ///
    /// # Errors
    /// `deploy.invalid`: the folder's table is not one, or not of one model with one version.
    pub fn new(
        swap: Arc<Swap>,
        folder: &Folder,
        surroundings: &Surroundings,
    ) -> Result<Self, Failure> {
        let mut table = folder.table(surroundings)?;
        if table.models.len() != 1 || table.models[0].versions.len() != 1 {
            return Err(Failure::new(
                ErrorCode::DeployInvalid,
                "the folder's table is to have one model with one version, for an agent to exchange",
            ));
        }
        // Whatever the table was compiled with: what comes over a network is signed.
        table.trust.require_signature = true;
        let trust = load::policy(&table.trust)?;
        Ok(Self { swap, table, trust, store: folder.path().join(STORE) })
    }

    /// The table of a slot.
    fn table_of(&self, slot: &Slot) -> Result<ServingTable, Failure> {
        let mut table = self.table.clone();
        table.sequence = slot.sequence;
        table.revision = Revision::parse(&format!("r{}", slot.sequence)).map_err(|text| {
            Failure::new(ErrorCode::DeployInvalid, format!("`{text}` is no revision"))
        })?;
        for model in &mut table.models {
            model.labels.clone_from(&slot.labels);
            model.aliases = std::mem::take(&mut model.aliases)
                .into_keys()
                .map(|alias| (alias, slot.version.clone()))
                .collect::<BTreeMap<_, _>>();
            for arm in &mut model.split {
                arm.version = slot.version.clone();
            }
            for version in &mut model.versions {
                version.version = slot.version.clone();
                version.source =
                    Source::Artifact { digest: slot.digest.clone(), store: self.store.clone() };
                // The golden samples are the self-test of an update.
                version.golden = GoldenMode::Require;
            }
        }
        Ok(table)
    }
}

impl Device for EdgeDevice {
    fn check_signature(&self, digest: &Digest) -> Result<(), Failure> {
        Store::open(&self.store)?.check_signature(digest, &self.trust)
    }

    fn labels(&self, digest: &Digest) -> Result<Vec<String>, Failure> {
        Store::open(&self.store)?.labels(digest, &self.trust, &self.swap.engine().keys)
    }

    fn serve(&self, slot: &Slot) -> Result<(), Failure> {
        let table = self.table_of(slot)?;
        self.swap.put(table).map(|_| ()).map_err(|refused| refused.failure().clone())
    }

    fn counted(&self) -> Value {
        let state = &self.swap.engine().state;
        state.freeze();
        let (mut requests, mut failed, mut sum_us) = (0, 0, 0);
        let mut counts: Vec<u64> = vec![0; BOUNDS_US.len() + 1];
        let mut codes: BTreeMap<&'static str, u64> = BTreeMap::new();
        for totals in state.arms().values() {
            requests += totals.requests();
            sum_us += totals.request.sum_ns / 1000;
            for (all, count) in counts.iter_mut().zip(totals.request.counts) {
                *all += count;
            }
            for (_, code, count) in totals.by_result() {
                if let Some(code) = code {
                    failed += count;
                    *codes.entry(code.as_str()).or_default() += count;
                }
            }
        }
        for (_, code, count) in state.refusals() {
            *codes.entry(code.as_str()).or_default() += count;
        }
        let serving = self.swap.engine().serving.load_full();
        let model = serving.as_ref().and_then(|serving| serving.document.models.first());
        let codes: Map<String, Value> =
            codes.into_iter().map(|(code, count)| (code.to_owned(), count.into())).collect();
        json!({
            "epoch": state.epoch,
            "uptime_s": state.uptime().as_secs(),
            "model": model.map(|model| &model.name),
            "version": model.and_then(|model| model.versions.first()).map(|one| &one.version),
            "requests": requests,
            "failed": failed,
            "codes": codes,
            "request_us": { "bounds": BOUNDS_US, "counts": counts, "sum": sum_us },
            "rss_bytes": resident_bytes(),
        })
    }

    fn log(&self, message: &str) {
        events::log(Level::Info, message);
    }
}
