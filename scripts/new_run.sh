# Sourced by the quickstarts, with the folder of the run: moves an earlier run aside, and begins a new one.
runs=$1
if [ -e "$runs" ]; then
  old=$runs.$(date +%Y%m%d-%H%M%S)
  mv "$runs" "$old"
  echo "the last run was moved to $old"
fi
export OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

mkdir -p "$runs"
begin=$(date +%s)
