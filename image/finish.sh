# Finish the folders of Python packages that the arguments name: the same on each machine, and compiled.
# uv notes the hashes of the packages' commands, whose first lines name the Python that installed them
find "$@" -path '*.dist-info/RECORD' -exec sed -i '/^bin\//d' {} +
chmod -R a+rX,go-w "$@"
# By the hash of the source, not by its time: a layer keeps no times. A read-only root file system keeps no compiled
# modules, and each start would compile for seconds.
find "$@" -name __pycache__ -prune -exec rm -rf {} +
PYTHONHASHSEED=0 python3 -m compileall -q --invalidation-mode unchecked-hash "$@"
