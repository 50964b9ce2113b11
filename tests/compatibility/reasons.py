"""Why answers differ from another server's, where they do: the first entry that fits is the reason."""

from __future__ import annotations

from fnmatch import fnmatchcase

# The question, as a pattern; the beginning of what differs.
Reasons = dict[tuple[str, str], str]

_TOLD_FIRST = "the caller's mistake is told before the model runs; there its code fails on it"
_NOT_A_FAULT = "the caller's mistake is 400 here; there it counts as the server's own failure"
_BODY = "an empty body there; KServe's clients read ours"
_UNKNOWN = "what is not known is 404 in everything that is asked about it"
_NO_SHARED_MEMORY = "there is none to register: Triton's own default since 2026"
_NOT_THERE = "an extension that is not there, and is not in the list of extensions"

_TRITON: Reasons = {
    ("*fewer elements than the shape says", "500 there"): _NOT_A_FAULT,
    ("live", "only"): _BODY,
    ("ready", "only here: `ready`"): _BODY,
    ("*ready", "only"): _BODY,
    ("load*", "only"): "the body that KServe answers; Triton's clients look at the status alone",
    ("unload*", "only"): "the body that KServe answers; Triton's clients look at the status alone",
    ("a version's readiness", "only"): _BODY,
    ("a version's metadata", "only here: `parameters`"): "our own word, in an extensible object",
    ("model metadata", "only here: `parameters`"): "our own word, in an extensible object",
    ("a query behind a path", "only here"): "our own word, in an extensible object",
    ("* ready", "400 there, 404 here"): "KServe's status, which says more",
    ("unloaded: ready", "400 there, 404 here"): "KServe's status, which says more",
    ("unknown model, ready", "400 there, 404 here"): "KServe's status, which says more",
    ("*'s readiness", "400 there, 404 here"): "KServe's status, which says more",
    ("*statistics*", "400 there, 404 here"): _UNKNOWN,
    ("unknown model, statistics", "3 there, 5 here"): _UNKNOWN,
    ("load, an unknown model", ""): _UNKNOWN,
    ("unload, an unknown model", ""): _UNKNOWN,
    ("load with a file", "500 there, 501 here"): (
        "no model is taken from a request, and the answer says so"
    ),
    ("load with an unknown parameter", "500 there, 200 here"): "what is not known is passed over",
    ("an empty body", "200 there"): "there an empty body is taken for a tensor without rows",
    ("gzip that is none", "200 there"): "there it is taken for a tensor without rows",
    ("infer, NaN and infinities", "`outputs."): (
        "JSON has no such words: answers say `null`, as KServe's do, and binary ones say what it is; "
        "in requests both are read"
    ),
    ("INT8, one too large", "200 there"): (
        "an integer that its dtype does not hold is refused and not cut off"
    ),
    ("more rows than ride together", "400 there, 200 here"): (
        "a request of more rows than ride together runs by itself"
    ),
    ("an output that is asked for twice", "200 there"): "it is a mistake, and told",
    ("a parameter that is null", "400 there, 200 here"): "null is as good as nothing",
    ("a parameter of Triton's own", "400 there, 200 here"): "no name is reserved here",
    ("infer, gzip is accepted", "only there: the header"): (
        "an answer under a kilobyte is not worth compressing"
    ),
    ("*config", "only"): (
        "what is configured differs: there the python backend with all its versions and without "
        "batching; of the optional messages those that say something"
    ),
    ("statistics", "only there: `model_stats[].batch_stats[].compute_input.ns"): (
        "inputs and outputs are not copied, which takes no time"
    ),
    ("statistics", "only here: `model_stats[].inference_stats.fail.count`"): (
        "a request that was refused counts as one that failed"
    ),
    ("a slash behind the first", "404 there, 200 here"): "a path of ours",
    ("the models", "404 there, 200 here"): "KServe's path",
    ("the root", "404 there, 200 here"): "a path of ours: what is served, for a person",
    ("an encoded letter in a name", "404 there, 200 here"): "names in paths are percent-decoded",
    ("index of one repository", "200 there, 501 here"): (
        "there is one repository, without a name; there the name is passed over"
    ),
    ("*shared memory*", ""): _NO_SHARED_MEMORY,
    ("a region of it", ""): _NO_SHARED_MEMORY,
    ("*trace settings", ""): _NOT_THERE,
    ("log settings", ""): _NOT_THERE,
    ("generate", "400 there, 501 here"): _NOT_THERE,
    ("a version that is no number", "3 there, 5 here"): "a version may be called by a text here",
    ("more raw contents than inputs", "0 there, 3 here"): (
        "contents that belong to no input are a mistake, and told"
    ),
    ("streamed, a failure ends it", "0 there, 5 here"): (
        "what Triton's documentation says of `triton_grpc_error`; this version does not do it yet"
    ),
    ("*", "500 there, 400 here"): _NOT_A_FAULT,
}
_NO_HANDLER = (
    "a body that does not fit is told what is wrong with it; there its handler fails on it"
)
_DESCRIPTION = "each server describes its own paths, in its own words"
_TORCHSERVE: Reasons = {
    ("predict, octets", "200 there, 400 here"): (
        "octets are the tensor itself: there is no handler that would look for text in them"
    ),
    ("*", "503 there, 400 here"): _NO_HANDLER,
    ("*", "14 there, 3 here"): _NO_HANDLER,
    ("no model", "13 there, 3 here"): "the caller's mistake; there it counts as the server's own",
    ("*API description*", "only"): _DESCRIPTION,
    ("unknown path", "only there: `message`, `type`"): (
        "a path that belongs to no dialect is answered as by V2"
    ),
    ("unknown path", "`type` is"): "a path that belongs to no dialect is answered as by V2",
    ("unknown path", "`message` is"): "a path that belongs to no dialect is answered as by V2",
    ("*describe*", "only there: `[].maxRetryTimeoutInSec`, `[].startupTimeout`"): (
        "no worker is started by itself: a model is opened within the engine"
    ),
    ("list, a limit of none", "only"): "a page of none would never come to the end",
    ("register, a file by its address", "400 there, 404 here"): (
        "no address is opened for a client; TorchServe says the same of one that is not allowed"
    ),
    ("register, again", "2 there, 10 here"): (
        "`ABORTED`, which its documentation has for a conflict; there it is `UNKNOWN`"
    ),
}
_OF_ANY: Reasons = {
    ("*", "only there: `detail`"): "the words of its web framework; `error` is the protocol's",
    ("*", "only here: `error`"): "the protocol's own word",
    ("*", "422 there, 400 here"): (
        "what is no request is 400 by Triton and TensorFlow Serving; 422 is its framework's"
    ),
    ("*", "500 there, 400 here"): _TOLD_FIRST,
    ("*", "200 there, 400 here"): (
        "what the model has not is refused, as by Triton; there it is passed over"
    ),
    ("model metadata", "only"): (
        "the graph tells the signature; there the model's code would have to"
    ),
    ("model status", "only here: `model_version_status"): (
        "what TensorFlow Serving's clients read at this path"
    ),
    ("predict by GET", "404 there, 400 here"): "TensorFlow Serving's answer to a wrong method",
    ("infer, no content type", "400 there, 200 here"): (
        "Triton takes it, and Triton's own client sends none"
    ),
    ("infer, binary both ways", "500 there, 200 here"): "its REST does not read binary tensor data",
    ("live", "only"): _BODY,
    ("ready", "only"): _BODY,
    ("model ready", "only"): _BODY,
    ("infer, *", "only there"): (
        "it makes an id where none was given, and adds its own parameters, empty ones too"
    ),
    ("infer, *", "only here: `model_version`"): "Triton names the version that answered",
}
REASONS = (_TRITON, _TORCHSERVE, _OF_ANY)
_OF: dict[str, Reasons] = {"nvidia-pytriton": _TRITON, "torchserve": _TORCHSERVE}


def reason_for(peer: str, question: str, what: str) -> str | None:
    """Why our answer to a question differs so from a peer's; None where nothing says it."""
    for (asked, begin), reason in _OF.get(peer, _OF_ANY).items():
        if what.startswith(begin) and fnmatchcase(question, asked):
            return reason
    return None
