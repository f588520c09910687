"""Base of every command: Sacred experiments, readable errors, and their exit codes.

Commands read ``python SCRIPT [COMMAND] with key=value ...``. ``help`` says what a script is for and lists its options;
``print_config``, ``-F DIR`` and ``with FILE.json`` are Sacred's. A user's mistake is one sentence on stderr and exit
code 2; an interrupted run exits with 130, and the same command goes on from where it was.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from core import checkpoint, commandline, manual, terminal
from core.codec import Method, TesseraError
from core.options import check, literal
from core.places import default_results
from core.registry import METHODS, discover, make_method, reason, unknown

if TYPE_CHECKING:
    from sacred import Experiment

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: two spinning threads on a shared machine crawl
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # of Sacred
ROOT = Path(__file__).resolve().parents[1]
Scope = Callable[..., Any]
_explained: dict[str, tuple[str, tuple[Scope, ...]]] = {}  # name of an experiment -> script and options, for help
_given: set[str] = set()  # names of params.NAME=... on the command line that runs


def experiment(
    script: str,
    name: str,
    config: Scope,
    named: Mapping[str, Mapping[str, Any]] | None = None,
    own: Scope | None = None,
) -> Experiment:
    """A Sacred experiment for an entry script (its ``__file__``) with a config scope and named configs.

    ``config`` is a module-level function in Sacred's sense: its local variables are the configuration. ``own`` is
    another one with options of the script alone.
    """
    from sacred import SETTINGS, Experiment  # here: it takes longer to import than a help text to print

    SETTINGS.CAPTURE_MODE = "sys"  # the default loses the end of the output now and then
    SETTINGS.CONFIG.READ_ONLY_CONFIG = False
    SETTINGS.DISCOVER_SOURCES = "none"
    SETTINGS.DISCOVER_DEPENDENCIES = "none"  # each cell records versions and commit itself
    ex = Experiment(name, base_dir=str(ROOT), save_git_info=False)
    ex.add_source_file(script)
    scopes = (config, *filter(None, (own,)))
    _explained[name] = (script, scopes)
    quiet: Any = logging.getLogger(name)
    quiet.setLevel(logging.CRITICAL)  # our own lines say what happens; -l INFO brings Sacred's back
    ex.logger = quiet
    for scope in scopes:
        ex.config(scope)
    for title, values in (named or {}).items():
        ex.add_named_config(title, dict(values))
    return ex


class _Defaulted:
    """A config scope that reads as if its first lines were other defaults, on which the later ones may depend."""

    def __init__(self, scope: Callable[..., Any], defaults: Mapping[str, Any]) -> None:
        self.scope, self.defaults = scope, defaults

    def __call__(self, fixed: Any = None, preset: Any = None, fallback: Any = None) -> Any:
        return self.scope({**self.defaults, **(fixed or {})}, preset, fallback)


def with_defaults(ex: Experiment, defaults: Mapping[str, Any]) -> None:
    """Other defaults for an experiment's options, those of ``params`` follow the method."""
    ex.configurations[0] = _Defaulted(ex.configurations[0], dict(defaults))


def run(ex: Experiment, argv: Sequence[str] | None = None, about: str = "") -> NoReturn:
    """Run the command line of an experiment and exit: 0 done, 1 some failed, 2 a mistake of the user, 130 stopped.

    ``about`` is what ``help`` begins with; default: the docstring of the script.
    """
    words = list(sys.argv if argv is None else argv)
    if any(word in manual.WORDS for word in words[1:]):
        sys.exit(commandline.piped(lambda: print(help_text(ex, about)) or 0))
    _given.clear()
    _given.update(word.partition("=")[0].removeprefix("params.") for word in words if word.startswith("params."))
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _check_names(ex, words)
        asked = "print_config" in words
        if not asked:
            _observe(ex, words)
        result = _shown(ex, words) if asked else ex.run_commandline(words)
        sys.exit(int(result.result or 0) if result is not None and isinstance(result.result, int) else 0)
    except TesseraError as error:
        fail(error)
    except BrokenPipeError:
        sys.exit(commandline.gone())
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here.", file=sys.stderr)
        sys.exit(130)
    finally:
        _given.clear()


def _shown(ex: Experiment, words: list[str]) -> Any:
    """What Sacred prints by itself, printed at once: it answers a closed pipe with a traceback."""
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            return ex.run_commandline(words)
    finally:
        print(terminal.plain(text.getvalue()), end="", flush=True)


def help_text(ex: Experiment, about: str = "") -> str:
    """What a script or command is for, its options with their defaults, and its named configs."""
    script, scopes = _explained[str(ex.path)]
    changed_ones = ex.configurations[0].defaults if isinstance(ex.configurations[0], _Defaulted) else {}
    options = [option for scope in scopes for option in manual.scope_options(scope, changed_ones)]
    named = [(name, " ".join(f"{k}={v}" for k, v in values().items())) for name, values in ex.named_configs.items()]
    more = [
        ("print_config with ...", "every option, and the parameters of a method: nothing is run"),
        ("with FILE.json ...", "options from a file"),
        ("-F DIR", "where Sacred notes the run; default: <results>/sacred"),
    ]
    return manual.page(about or manual.docstring(script), options, ("named configs", named), ("also", more))


def run_or_moved(ex: Experiment, moved: Mapping[str, str]) -> NoReturn:
    """Run ``ex``; or what ``experiment=NAME`` stood for, which is a script of its own now (until the next release).

    ``moved``: name -> the script in ``benchmarks/``, which is imported only then.
    """
    name = next((word.partition("=")[2] for word in sys.argv if word.startswith("experiment=")), None)
    if name is None:
        run(ex)
    if name not in moved:
        fail(unknown("experiment", name, moved))
    script = f"benchmarks/{moved[name]}.py"
    print(f"experiment={name} is a script of its own: python {script} with ...", file=sys.stderr)
    sys.argv[:] = [script, *(word for word in sys.argv[1:] if word != f"experiment={name}")]
    if sys.argv[-1] == "with":
        sys.argv.pop()
    run(import_module(f"benchmarks.{moved[name]}").ex)


def fail(error: TesseraError) -> NoReturn:
    """Say what is wrong in one sentence and exit with code 2."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def guarded(body: Callable[..., int]) -> Callable[..., int]:
    """A command whose ``TesseraError`` ends the run with one sentence and exit code 2 (Sacred marks it as failed)."""

    def command(_config: dict[str, Any], _run: Any) -> int:
        try:
            code = body(_config, _run)
            sys.stdout.flush()
            return code
        except TesseraError as error:
            fail(error)
        except BrokenPipeError:
            sys.exit(commandline.gone())
        except OSError as error:
            fail(commandline.no_room(error))
        except ModuleNotFoundError as error:  # what a method needs is imported when it is used
            fail(TesseraError(f"{reason(error)}."))
        except (MemoryError, RuntimeError) as error:  # torch's own has no class of its own on a CPU
            if not isinstance(error, MemoryError) and "alloc" not in str(error):
                raise
            fail(TesseraError(f"there is not enough memory for this ({str(error)[:200]}): ask for less at once."))

    command.__name__ = body.__name__
    command.__doc__ = body.__doc__
    return command


def default_params(method: str) -> dict[str, Any]:
    """Hyper-parameters and defaults of a method, for config scopes; empty when there is no such method."""
    discover()
    return METHODS[method].parameters() if method in METHODS else {}


def changed(params: Mapping[str, Any], method: str, given: Collection[str] | None = None) -> dict[str, Any]:
    """The parameters a user set: those on the command line, others than the defaults, and unknown ones (refused).

    ``given`` are those on the command line, where it is not the one that runs.
    """
    defaults, named = default_params(method), _given if given is None else given
    return {k: v for k, v in params.items() if k in named or k not in defaults or _plain(v) != _plain(defaults[k])}


def configured(config: Mapping[str, Any]) -> Method:
    """The method of a config; at the one point of weights given by path where the user named none."""
    discover()
    params = changed(config["params"], config["method"])
    method = make_method(config["method"], params)
    own = () if method.curve in params else checkpoint.points(method, str(config["weights"]))
    return method.at(own[0]) if len(own) == 1 else method


def sequence(value: Any) -> list[Any] | None:
    """What a user wrote as ``a,b``, ``[a, b]``, ``a`` or nothing, as a list (or None)."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_names(ex: Experiment, words: Sequence[str]) -> None:
    """Answer unknown options, commands, named configs and wrong values before Sacred does, in one sentence."""
    _check_command(ex, words)
    known = {name: value for scope in ex.configurations for name, value in scope().items()}
    if "with" not in words:
        return
    method = next((w.removeprefix("method=") for w in words if w.startswith("method=")), "")
    for word in words[words.index("with") + 1 :]:
        name, equals, value = word.partition("=")
        top, _, inner = name.partition(".")
        if word.startswith("-"):
            return
        if equals and top not in known:
            raise _unknown_option(name, value, method or str(known.get("method", "")), known)
        if equals and top == name:
            check(name, literal(value), known[name], value)
        if equals and top != name and not isinstance(known[top], dict):
            raise TesseraError(f"{top} has no parts: write {top}=VALUE instead of {name}.")
        if top == "params" and default_params(method) and inner not in default_params(method):
            raise unknown(f"parameter of {method}", inner, default_params(method))
        if not equals and name not in ex.named_configs and not Path(name).is_file():
            raise unknown("named config or file (options are written key=value)", name, ex.named_configs)
        if not equals and name not in ex.named_configs:
            _check_file(name, known)


def _unknown_option(name: str, value: str, method: str, known: Mapping[str, Any]) -> TesseraError:
    """The error for a word that is no option, among them hyper-parameters of the method written without params."""
    params = default_params(method) if "params" in known else {}
    if name not in params:
        return unknown("option", name.partition(".")[0], {*known, *(f"params.{param}" for param in params)})
    more = (
        f", or points={value} for a point of its curve" if name == METHODS[method].curve and "points" in known else ""
    )
    return TesseraError(f"{name} is a parameter of {method}: write params.{name}={value}{more}.")


def _check_command(ex: Experiment, words: Sequence[str]) -> None:
    """Words before ``with`` are options with a dash, or one known command."""
    end = words.index("with") if "with" in words else len(words)
    for word in words[1 : end if words[1:2] and not words[1].startswith("-") else 1]:
        if word.startswith("-"):
            return
        if "=" in word:
            raise TesseraError(f"options follow the word 'with': write 'with {word}'.")
        if word not in {*ex.commands, "help"}:
            raise unknown("command", word, {*ex.commands, "help"})


def _check_file(name: str, known: Mapping[str, Any]) -> None:
    """The options of a configuration file, checked as those of the command line."""
    from sacred.config.config_files import load_config_file

    try:
        given = load_config_file(name)
    except Exception as error:  # of JSON, YAML, pickles and suffixes
        raise TesseraError(f"{name} cannot be read as a configuration ({type(error).__name__}): {error}") from error
    if not isinstance(given, dict):
        raise TesseraError(f"{name} holds no options: it must be an object of names and values.")
    for option, value in given.items():
        if option not in known:
            raise unknown(f"option in {name}", option, known)
        check(option, value, known[option])


def _observe(ex: Experiment, words: Sequence[str]) -> None:
    """Keep provenance under <results>/sacred, in the one process that writes."""
    from sacred.observers import FileStorageObserver

    results = next((w.removeprefix("results=") for w in words if w.startswith("results=")), default_results())
    together = next((w.removeprefix("processes=") for w in words if w.startswith("processes=")), "1") != "1"
    if os.environ.get("RANK", "1" if together else "0") != "0" or "-u" in words:
        return
    folder = Path(results) / "sacred"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink(missing_ok=True)  # another command may have been faster
    except OSError as error:
        raise TesseraError(
            f"{folder} cannot be written ({error.strerror}): give another place with results=DIR."
        ) from None

    class Notes(FileStorageObserver):
        def started_event(self, *args: Any, **named: Any) -> Any:
            try:
                return super().started_event(*args, **named)
            except OSError as error:  # Sacred would end the run with its traceback
                fail(commandline.no_room(error))

    ex.observers.append(Notes(folder))


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt
