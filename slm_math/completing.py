"""`slm-math completion`: what a shell offers at the Tab key. A small script of each shell asks
`slm-math __complete WORDS`, which answers from source files, without torch.
"""

from __future__ import annotations

import ast
from itertools import pairwise
from typing import Literal

from slm_math.command_table import COMMANDS, FLAGS, POSITIONAL, TRAINING
from slm_math.named_classes import find_class, known_classes
from slm_math.option_names import OF_TRAINING, SECTIONS, WITH_OPTIONS, option_names
from slm_math.shipped import names as config_names
from slm_math.signatures import Option, choices_of, slot_of

SCRIPTS = {
    "bash": """\
_slm_math() {
    local IFS=$'\\n'
    COMPREPLY=($(slm-math __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    # a section goes on: --model.
    [[ ${#COMPREPLY[@]} == 1 && $COMPREPLY == *. ]] && compopt -o nospace
    return 0
}
complete -o default -F _slm_math slm-math
""",
    "zsh": """\
#compdef slm-math
_slm_math() {
    local -a found
    found=(${(f)"$(slm-math __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ! $#found )); then _files; return; fi
    local -a sections=(${(M)found:#*.}) whole=(${found:#*.})
    compadd -S '' -a sections  # they go on: --model.
    compadd -a whole
}
# sourced, or a file of $fpath that zsh runs at the first Tab
if [[ $funcstack[1] == _slm-math ]]; then _slm_math "$@"; else compdef _slm_math slm-math; fi
""",
    "fish": """\
function __slm_math
    set -l found (slm-math __complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)
    if test -n "$found"
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c slm-math -f -a '(__slm_math)'
""",
}


def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print the script that makes a shell complete commands, options, configs, classes and choices:
    `source <(slm-math completion bash)`.

    Args:
        shell: the shell that reads the script.
    """
    print(SCRIPTS[shell], end="")


def complete(words: list[str]) -> list[str]:
    """What the last word may become, after the words before it; nothing where a file is expected,
    which the shell completes by itself.
    """
    words = [word for word in words if word != "="] or [""]  # bash makes it a word
    *before, last = words
    if not before:
        return _that_begin(last, [*TRAINING, *COMMANDS])
    command, *given = before
    option, equals, value = last.partition("=")
    if equals and option.startswith("--"):
        return [f"{option}={each}" for each in _values(command, option, value, given)]
    if last.startswith("-"):
        return _that_begin(last, ["--help", *_options(command, last, given)])
    previous = given[-1] if given else ""
    takes_value = previous.startswith("-") and "=" not in previous
    if takes_value and previous not in FLAGS.get(command, ()):
        return _values(command, previous, last, given)
    first = POSITIONAL.get(command, "").partition(" ")[0]
    return _values(command, f"--{first}", last, given) if first and not given else []


def _options(command: str, begin: str, given: list[str]) -> list[str]:
    """The options of a command; of training the sections alone, until one is begun."""
    section = begin[2:].partition(".")
    if command in TRAINING and not (section[1] and section[0] in WITH_OPTIONS):
        return [f"--{name}" for name in (*OF_TRAINING, *(f"{each}." for each in WITH_OPTIONS))]
    return [f"--{name}" for name in option_names(command, _classes(given), begin[2:])]


def _values(command: str, option: str, begin: str, given: list[str]) -> list[str]:
    """The values of an option: configs, classes, choices."""
    name = option.removeprefix("--").removesuffix("+")
    if option in ("--config", "-c") or (command, name) == ("configs", "name"):
        return _that_begin(begin, config_names())
    if command in TRAINING and name in SECTIONS:
        return _that_begin(begin, SECTIONS[name])
    options = option_names(command, _classes(given), name)
    found = options.get(name) or options.get(name.rpartition(".")[0])  # of one of many
    return _that_begin(begin, _choices(found)) if found else []


def _choices(option: Option) -> list[str]:
    """What the type of an option says of its values."""
    text = ast.unparse(option.annotation) if option.annotation else ""
    slot = slot_of(option)
    classes = sorted(known_classes(slot)) if slot.only_classes else []
    return [*choices_of(option), *classes, *(["true", "false"] if "bool" in text else [])]


def _classes(given: list[str]) -> dict[tuple[str, ...], set[str]]:
    """The classes that the words before name."""
    words = [part for word in given for part in word.split("=", 1)]
    return {
        tuple(name[2:].removesuffix("+").split(".")): {value}
        for name, value in pairwise(words)
        if name.startswith("--") and value[:1].isupper() and find_class(value)
    }


def _that_begin(begin: str, words: list[str] | tuple[str, ...]) -> list[str]:
    return [word for word in words if word.startswith(begin)]
