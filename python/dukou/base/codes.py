"""Every error code that Python raises: code → (family, remedy).

`spec/errors.toml` is the list for both languages; a test proves this table equal to it.
"""

CODES: dict[str, tuple[str, str]] = {
    "formats.not-found": (
        "input",
        "Check the path.",
    ),
    "formats.not-a-model": (
        "input",
        "The message lists the kinds.",
    ),
    "formats.corrupt": (
        "input",
        "Export or copy it again.",
    ),
    "formats.external-data-outside": (
        "input",
        "Put the weights beside the model and export it again.",
    ),
    "formats.external-data-missing": (
        "input",
        "Copy the weights beside the model.",
    ),
    "formats.unsupported-operator": (
        "input",
        "Export for the opset that the message names, or update onnxruntime.",
    ),
    "formats.cannot-convert": (
        "input",
        "The message names the part.",
    ),
    "formats.parity": (
        "input",
        "The message has the largest difference; do not serve this conversion.",
    ),
    "formats.untrusted-pickle": (
        "input",
        "If you made it yourself, say so with `--trust-pickle`.",
    ),
    "formats.untrusted-code": (
        "input",
        "If you made it yourself, say so with `--trust-code`.",
    ),
    "formats.missing-extra": (
        "input",
        "Install the extra that the message names.",
    ),
    "split.impossible": (
        "input",
        "Ask for fewer stages; the message says how many places there are.",
    ),
    "split.unbalanced": (
        "input",
        "Quantize the large weight, or serve the model whole.",
    ),
    "data.unreadable": (
        "input",
        "The message names the row and column.",
    ),
    "data.empty": (
        "input",
        "Check the path and the filter.",
    ),
    "data.missing-column": (
        "input",
        "The message lists the columns that are.",
    ),
    "data.text-target": (
        "input",
        'Mend the cell that the message names, or say `task = "classification"` in `[model]` where '
        "classes are meant.",
    ),
    "data.quality": (
        "input",
        "The message names the rows; mend them or change the check in `[data]`.",
    ),
    "data.mismatch": (
        "input",
        "The message has both sides.",
    ),
    "evaluate.unknown-slice": (
        "input",
        "Name a column of the data as it stands in its header, alone or in a comparison as "
        "`age > 60`; the message lists the columns.",
    ),
    "evaluate.empty-slice": (
        "input",
        "Choose a condition that some held-out rows meet; the message says what is there. A larger "
        "`test_fraction` holds out more.",
    ),
    "evaluate.gate-failed": (
        "input",
        "The message has the number, its interval and the gate; improve the model or change the gate knowingly.",
    ),
    "evaluate.unknown-metric": (
        "input",
        "The message lists the metrics.",
    ),
    "improve.cannot-apply": (
        "input",
        "The message says what the model has; leave the key out, and what can be tried is tried.",
    ),
    "improve.too-few-rows": (
        "input",
        "Hold out more rows with `data.test_fraction`, or leave the key out.",
    ),
    "project.loosens": (
        "input",
        "Keep the base's demand or a stricter one; whoever keeps the base file can change it.",
    ),
    "project.not-found": (
        "input",
        "Run `dukou init`, or go to the folder of the project.",
    ),
    "project.invalid": (
        "input",
        "The message names the key, what it holds and what it may hold.",
    ),
    "project.train-failed": (
        "input",
        "The message has its last lines; see the page on the [train] contract.",
    ),
    "project.exists": (
        "input",
        "Choose another folder, or pass `--force`; `dukou init --ci SYSTEM` adds a pipeline to a "
        "project that is there.",
    ),
    "config.invalid": (
        "input",
        "The message names the setting, its value and where it came from.",
    ),
    "deploy.invalid": (
        "input",
        "The message names the field.",
    ),
    "deploy.elsewhere": (
        "state",
        'Use the command that the message names, or set `profile = "centralized"` and `replicas = 1`.',
    ),
    "fleet.running": (
        "state",
        "`dukou fleet scale NAME N` changes it, `dukou fleet down NAME` ends it, `--name` starts another beside it.",
    ),
    "fleet.not-running": (
        "state",
        "`dukou fleet up NAME` starts one; `dukou fleet status` lists those that run.",
    ),
    "fleet.not-ended": (
        "state",
        "Look at `dukou fleet status`, wait, and ask again; a second Ctrl-C in its terminal does not wait.",
    ),
    "fleet.no-ray": (
        "resource",
        "Install it with `pip install 'dukou[ray]'`; without `--ray` the replicas run on this machine.",
    ),
    "fleet.no-cluster": (
        "remote",
        "Start one with `ray start --head`, or name one with `--address`.",
    ),
    "fleet.elsewhere": (
        "input",
        "Name a cluster on this machine, or list `dukou serve --host` servers in a gateway's document.",
    ),
    "deploy.unknown-provider": (
        "input",
        "Take the nearest name, or one that `dukou devices` lists; a provider of a plugin of your own is "
        "named in full, as `SomeExecutionProvider`.",
    ),
    "advise.unmet": (
        "resource",
        "Ask for less, allow another place (`--where`), or make the model smaller; without `--write` "
        "the numbers are shown.",
    ),
    "image.invalid-reference": (
        "input",
        "A name is like `digits:3` or `registry.example.com:5000/team/digits:3`.",
    ),
    "usage.invalid": (
        "input",
        "`dukou COMMAND --help` shows what it takes.",
    ),
    "folder.no-model": (
        "input",
        "Put each model's ONNX file there as `NAME/model.onnx` or `NAME/1/model.onnx`.",
    ),
    "folder.ambiguous": (
        "input",
        "Take one of the two away, or rename it.",
    ),
    "folder.foreign-model": (
        "input",
        "Make ONNX of it and put that beside it as `model.onnx`; the hint has the command.",
    ),
    "folder.invalid-config": (
        "input",
        "Correct the line that the message names.",
    ),
    "client.no-grpc": (
        "resource",
        "Install it with `pip install 'dukou[grpc]'`; servers are asked over HTTP without it.",
    ),
    "migrate.unknown-server": (
        "remote",
        "Name its HTTP port (8501 of TensorFlow Serving, 8080 of TorchServe and KServe, 8000 of Triton), "
        "or its gRPC port as `grpc://` (8500, 7070, 8081, 8001).",
    ),
    "migrate.not-running": (
        "state",
        "Begin one with `dukou migrate --from URL`.",
    ),
    "migrate.differs": (
        "state",
        "Look at `dukou migrate --report`, mend what differs, or say `--force`.",
    ),
    "server.port-in-use": (
        "state",
        "Choose another port, or `--port 0` for a free one.",
    ),
    "server.not-running": (
        "state",
        "Start one with `dukou serve`.",
    ),
    "registry.conflict": (
        "state",
        "Read it again and repeat the change.",
    ),
    "registry.unknown-model": (
        "state",
        "`dukou models` lists the names.",
    ),
    "registry.unknown-version": (
        "state",
        "`dukou models NAME` lists them.",
    ),
    "registry.audit-broken": (
        "state",
        "Restore the registry from a backup and find who wrote to its file.",
    ),
    "registry.unreadable": (
        "state",
        "Restore the registry from a backup, or update dukou; the message says which.",
    ),
    "monitor.bad-webhook": (
        "input",
        'Write the whole address: `webhook = "https://host/path"`.',
    ),
    "monitor.webhook-failed": (
        "remote",
        "Look at the receiver; the alarm itself is kept, and `dukou drift MODEL` shows it.",
    ),
    "monitor.no-capture": (
        "state",
        "Write `capture = true` under `[monitor]` in dukou.toml, ship, and serve the model by its name.",
    ),
    "privacy.invalid": (
        "input",
        "Use keep, detect, mask, hash, drop or generalize:…; `dukou privacy check` suggests tags.",
    ),
    "privacy.unknown-field": (
        "input",
        "Name a column of the data, `output.NAME`, or `*` for all that have no tag of their own.",
    ),
    "privacy.untagged": (
        "input",
        'Tag them (`"*" = "keep"` for all others), or write `capture_untagged = true` under `[privacy]`.',
    ),
    "privacy.not-learnable": (
        "input",
        "Tag the column `keep` or `generalize:…`, or take it out of the model by `[data] drop`.",
    ),
    "privacy.unknown-subject": (
        "state",
        "Name the person exactly as requests do: `dukou-subject`, or the field of `[privacy] subject`.",
    ),
    "privacy.file-exists": (
        "input",
        "Name another file; an export never replaces one.",
    ),
    "privacy.damaged": (
        "trust",
        "Restore the captures from a backup, or remove the file that the message names.",
    ),
    "labels.invalid": (
        "input",
        "A header `request_id,label` (and `row`, for requests of several rows), and a line a label.",
    ),
    "trust.key-elsewhere": (
        "state",
        "Rotate it where it is kept, and put the new public half into the trust folder.",
    ),
    "backup.unknown": (
        "input",
        "`dukou backup list --to FOLDER` shows what is there.",
    ),
    "backup.not-empty": (
        "state",
        "Name another folder with `--into`, or say `--replace`: what is there is moved aside and kept.",
    ),
    "backup.busy": (
        "state",
        "Wait until it has ended, or end the server, and try again.",
    ),
    "backup.damaged": (
        "trust",
        "Put back another snapshot (`dukou backup list`), and take a new one: it keeps whole what is damaged.",
    ),
    "backup.sealed": (
        "trust",
        "Configure the key that it was taken with: `DUKOU_ENCRYPTION_KEY`.",
    ),
    "backup.does-not-hold": (
        "state",
        "Take a new one with `dukou backup` and verify it; look at the installation with `dukou doctor`.",
    ),
    "backup.own-database": (
        "state",
        "Back the database up with its own tools.",
    ),
    "maintain.unknown": (
        "input",
        "`dukou maintain` lists them.",
    ),
    "maintain.running": (
        "state",
        "Let it end; what it does is written down, and is not due again after it.",
    ),
    "maintain.failed": (
        "state",
        "Mend what the message names, and run the chore again: `dukou maintain --run NAME`.",
    ),
    "rollout.running": (
        "state",
        "Wait for it, or end it with `dukou rollback MODEL`; `dukou rollout status` shows it.",
    ),
    "rollout.no-champion": (
        "state",
        "Make one with `dukou promote MODEL:VERSION --now`.",
    ),
    "rollout.same-version": (
        "state",
        "Name another version; `dukou models NAME` lists them.",
    ),
    "rollout.unknown": (
        "state",
        "`dukou rollout status` lists them.",
    ),
    "rollout.nothing-before": (
        "state",
        "Name the version: `dukou promote MODEL:VERSION --now`.",
    ),
    "rollout.timeout": (
        "state",
        "`dukou rollout status MODEL` says what it waits for; wait longer, or end it with `dukou rollback MODEL`.",
    ),
    "retrain.running": (
        "state",
        "Wait for it: it learns from the same rows. `DUKOU_HOME/runs/MODEL` has its record when it is done.",
    ),
    "rollout.ended": (
        "state",
        "`dukou rollout status MODEL` says how it ended.",
    ),
    "cache.in-use": (
        "state",
        "Wait until it ends and repeat the command; `--dry-run` works meanwhile.",
    ),
    "package.incomplete": (
        "state",
        "Publish or pull the version again.",
    ),
    "access.off-loopback": (
        "trust",
        "Give TLS and keys: `dukou serve --host` makes both, a container has them mounted; or say `--insecure`.",
    ),
    "access.unreadable-keys": (
        "state",
        "Put the document back from a backup; without it no key is good.",
    ),
    "access.unknown-key": (
        "input",
        "`dukou keys list` shows the names and ids.",
    ),
    "access.foreign-folder": (
        "trust",
        "Take it away or mend its owner and mode, or point `XDG_RUNTIME_DIR` at a folder of yours.",
    ),
    "package.digest-mismatch": (
        "trust",
        "It was damaged or changed: publish or pull the version again.",
    ),
    "trust.unsigned": (
        "trust",
        "Package it again; `dukou ship` signs.",
    ),
    "trust.bad-signature": (
        "trust",
        "Somebody changed the version or its signature: do not use it.",
    ),
    "trust.unknown-certificate": (
        "trust",
        "Name the server's certificate with `--cacert` or DUKOU_CACERT, if you know whose it is.",
    ),
    "trust.unknown-key": (
        "trust",
        "Add the key's public half to the trust store if you know whose it is.",
    ),
    "trust.missing-key": (
        "trust",
        "Restore it from your backup, or name another with `DUKOU_SIGNING_KEY`.",
    ),
    "store.disk-full": (
        "resource",
        "Free some space and repeat the command: nothing half-written remains.",
    ),
    "store.not-writable": (
        "resource",
        "Choose another `DUKOU_HOME`, or mend the permissions.",
    ),
    "image.tool-missing": (
        "remote",
        "Install it, or write a file with `--output IMAGE.tar`, which needs none of them.",
    ),
    "image.tool-failed": (
        "remote",
        "The message has its last words; `--output IMAGE.tar` writes the image without it.",
    ),
    "standalone.library-missing": (
        "remote",
        "Use the engine and the onnxruntime that were installed here; the message names the file.",
    ),
    "engine.not-found": (
        "remote",
        "Install dukou again, or name it with `DUKOU_ENGINE`.",
    ),
    "engine.runtime-missing": (
        "remote",
        "`pip install onnxruntime`, or name the file with `--runtime`.",
    ),
    "engine.no-start": (
        "remote",
        "The message has its last lines.",
    ),
    "engine.unreachable": (
        "remote",
        "`dukou status` says what runs.",
    ),
    "client.server-error": (
        "remote",
        "The message has its words.",
    ),
    "bug.internal": (
        "bug",
        "Please report it with the log that the message names.",
    ),
    "trust.no-encryption-key": (
        "trust",
        "Name the key with `DUKOU_ENCRYPTION_KEY`, or put it back; without it nobody can read what it sealed.",
    ),
    "trust.wrong-encryption-key": (
        "trust",
        "Add the key of the first id to the key's source as a second line, then run `dukou encryption rotate`.",
    ),
    "trust.key-readable": (
        "trust",
        "`chmod 600` the file; where others have read it already, run `dukou encryption rotate`.",
    ),
    "trust.invalid-encryption-key": (
        "input",
        "`dukou encryption new` makes a key; the message names the line, never what it holds.",
    ),
    "trust.key-command-failed": (
        "remote",
        "Run the command by itself; it must print the key and end within 30 seconds.",
    ),
    "trust.key-exists": (
        "state",
        "Use it as it is, or replace it with `dukou encryption rotate`.",
    ),
    "trust.bad-ciphertext": (
        "trust",
        "Do not use it; restore it from a backup, or publish or pull the version again.",
    ),
    "trust.rotation-unfinished": (
        "state",
        "Restart what serves here, and run `dukou encryption rotate` again; both keys stay until then.",
    ),
    "trust.not-in-memory": (
        "trust",
        "Leave `folder` out, or name one under `/dev/shm`.",
    ),
    "store.no-memory-folder": (
        "resource",
        "Give the container a `/dev/shm`, or point `XDG_RUNTIME_DIR` at a `tmpfs` of yours.",
    ),
    "remote.insecure": (
        "input",
        "Use `https://`, or say `--insecure` where the network between is yours.",
    ),
    "remote.not-found": (
        "state",
        "The message or the hint lists what there is; push it first.",
    ),
    "remote.tag-taken": (
        "state",
        "Push to a repository of your own, or under a name with `--tag`; numbers are never moved.",
    ),
    "remote.denied": (
        "trust",
        "Say who you are with `--username` and DUKOU_REMOTE_PASSWORD, or by `docker login` or `podman login`.",
    ),
    "remote.full": (
        "resource",
        "Make room there, or raise the limit of the proxy.",
    ),
    "remote.unreachable": (
        "remote",
        "Check address and network; what has arrived already is not sent again.",
    ),
    "remote.refused": (
        "remote",
        "The message has its words; its log has more.",
    ),
    "edge.not-a-folder": (
        "input",
        "Name a folder that `dukou edge build` made; build it again where a file of it is broken.",
    ),
}
