//! Cuts an optimized graph's weights into chunks.

use std::{fs, io, path::Path};

use bytes::Bytes;
use dukou_sys::FileBytes;

use crate::{
    chunks,
    compiled::Trouble,
    graph::{self, External},
    index::{GRAPH, Index, Place},
    signature::dtype_of,
};

/// The file of weights that the runtime writes beside the graph that it optimized.
pub(crate) const WEIGHTS: &str = "weights.bin";
/// A tensor of this size has a chunk of its own; smaller ones share one, up to `TOGETHER` bytes.
const ALONE_FROM: usize = 1 << 20;
const TOGETHER: usize = 4 << 20;
const ALIGNMENT: usize = 64;

/// Reads the graph that was optimized into `folder`, moves its weights into chunks and enters both in
/// the index. The file of weights is left empty.
pub(crate) fn cut(folder: &Path, chunk_folder: &Path, index: &mut Index) -> Result<(), Trouble> {
    let graph = fs::read(folder.join(GRAPH))?;
    index.graph_sha256 = chunks::sha256(&graph);
    let facts = graph::read(Bytes::from(graph), "the optimized graph")
        .map_err(|failure| Trouble::Unfit(failure.message.into_owned()))?;
    let unfit = |why: &str| Trouble::Unfit(why.to_owned());
    if facts.externals.iter().any(|external| !external.outermost) {
        return Err(unfit("they are inside a subgraph"));
    }
    let file = folder.join(WEIGHTS);
    if !facts.externals.is_empty() {
        let weights = FileBytes::map(&file)?;
        let mut small = Small::default();
        for external in &facts.externals {
            dtype_of(external.data_type)
                .ok_or_else(|| unfit("their element type cannot be handed over"))?;
            let bytes = external
                .offset
                .checked_add(external.length)
                .and_then(|end| weights.get(external.offset..end))
                .ok_or_else(|| unfit("the optimized graph's are not whole"))?;
            if bytes.len() >= ALONE_FROM {
                let chunk = chunks::write(chunk_folder, bytes)?;
                index.tensors.push(place(external, index.chunks.len(), 0));
                index.chunks.push(chunk);
            } else {
                if small.bytes.len() + bytes.len() > TOGETHER {
                    small.flush(chunk_folder, index)?;
                }
                small.add(external, bytes);
            }
        }
        small.flush(chunk_folder, index)?;
    }
    // Another file of the same name, so that no mapping of the old one is cut short.
    let _ = fs::remove_file(&file);
    Ok(fs::write(&file, b"")?)
}

fn place(external: &External, chunk: usize, offset: usize) -> Place {
    Place {
        name: external.tensor.clone(),
        data_type: external.data_type,
        dims: external.dims.clone(),
        chunk,
        offset,
        length: external.length,
    }
}

/// Small tensors on their way into one chunk.
#[derive(Default)]
struct Small {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

impl Small {
    fn add(&mut self, external: &External, bytes: &[u8]) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        self.places.push(place(external, 0, self.bytes.len()));
        self.bytes.extend_from_slice(bytes);
    }

    fn flush(&mut self, folder: &Path, index: &mut Index) -> io::Result<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        let chunk = index.chunks.len();
        index.chunks.push(chunks::write(folder, &self.bytes)?);
        index.tensors.extend(self.places.drain(..).map(|place| Place { chunk, ..place }));
        self.bytes.clear();
        Ok(())
    }
}
