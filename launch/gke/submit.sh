#!/usr/bin/env bash
# Trains on TPU slices of a GKE cluster: builds the image, pushes it, and hands in a JobSet.
#
#   bash launch/gke/submit.sh --image us-west4-docker.pkg.dev/PROJECT/REPOSITORY/jaxreid \
#     [--topology 4x4 --hosts 4] [--spot] [--dry_run] -- \
#     --config configs/ssan.py:cuhk_pedes --workdir gs://BUCKET/runs/one \
#     --config.data.data_dir=gs://BUCKET/datasets
#
# Hardware: a node pool of TPU slices; 16 v5e chips, four hosts of four, by default. Time: not measured;
# the image is built once for each state of the project. Cost: the nodes of the pool, by hour, as long
# as the cluster keeps them; storage at gs:// and in the registry.
#
#   --accelerator A    label of the nodes: tpu-v5-lite-podslice (default), tpu-v5p-slice, tpu-v6e-slice
#   --topology T, --hosts N, --chips N   of one slice, its hosts and the chips of each: 4x4, 4 and 4
#   --slices N         of the same kind, 1 by default
#   --spot             nodes that may be taken away; their pods then have as little as 15 seconds
#   --restarts N       of all pods together, for whatever reason, 100 by default
#   --name N, --namespace N, --service_account A   jaxreid, default and default
#   --tag T            of the image; what git describe says by default
#   --replace          deletes a JobSet of this name that is there, running or not, and starts this one
#
# Needs docker logged in to the registry, kubectl pointed at the cluster, and JobSet installed in it.
# The service account must be allowed to read and write gs:// (Workload Identity). A Secret named
# jaxreid, if there is one, becomes the environment: no secret is in the image or in this command.
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

opt+=([image]="" [tag]="" [name]=jaxreid [namespace]=default [service_account]=default [replace]=no)
opt+=([accelerator]=tpu-v5-lite-podslice [topology]=4x4 [hosts]=4 [chips]=4 [slices]=1)
opt+=([restarts]=100 [spot]=no)
trains=yes
parse "$@"
required image "the image's name in a registry that the cluster reads, without a tag" \
  us-west4-docker.pkg.dev/PROJECT/REPOSITORY/jaxreid
for number in hosts chips slices; do whole "$number" 1; done
whole restarts 0
needs_training gs://BUCKET/runs/one

# is_like NAME PATTERN ACCEPTED: what goes into the manifest cannot be anything else in YAML.
is_like() {
  [[ "${opt[$1]}" =~ ^$2$ ]] || refuse "--$1 is '${opt[$1]}'; it takes $3."
}
label='[a-z]([a-z0-9-]{0,38}[a-z0-9])?'
for name in name namespace service_account accelerator; do
  is_like "$name" "$label" "small letters, digits and dashes, for example --$name jaxreid"
done
is_like topology '[0-9]+x[0-9]+(x[0-9]+)?' "chips by dimension, for example --topology 4x4"
is_dry || is_like image '[a-z0-9.:/_-]+' "a registry's path, for example --image us.gcr.io/p/jaxreid"
if [ -z "${opt[tag]}" ]; then
  opt[tag]="$(git -C "$ROOT" describe --always --dirty 2>/dev/null || true)"
  required tag "a name of this state of the project (git does not tell one here)" first
fi
is_like tag '[A-Za-z0-9_][A-Za-z0-9_.-]{0,120}' "letters, digits, dots and dashes, as --tag first"
image="${opt[image]}:${opt[tag]}"

# A list of strings as JSON, which is YAML too.
json_list() {
  local word line=""
  for word in "$@"; do
    [[ "$word" != *[[:cntrl:]]* ]] || refuse "$(quoted "$word") has a line break or the like in it."
    word="${word//\\/\\\\}"
    line+="${line:+, }\"${word//\"/\\\"}\""
  done
  printf '[%s]' "$line"
}

# The manifest; arguments last, so that nothing in them is taken for a place.
manifest() {
  local text name spot="# on demand"
  text="$(cat "$ROOT/launch/gke/jobset.yaml")"
  for name in name namespace restarts slices hosts service_account accelerator topology chips; do
    text="${text//"@${name^^}@"/"${opt[$name]}"}"
  done
  [ "${opt[spot]}" = no ] || spot='cloud.google.com/gke-spot: "true"'
  text="${text//"@SPOT@"/"$spot"}"
  text="${text//"@IMAGE@"/"$image"}"
  printf '%s\n' "${text//"@ARGS@"/"$(json_list train "${train[@]}")"}"
}

space=(--namespace "${opt[namespace]}")
if ! is_dry; then
  kubectl get crd jobsets.jobset.x-k8s.io >/dev/null ||
    refuse "the cluster does not answer or has no JobSet: https://jobset.sigs.k8s.io installs it."
  if [ "${opt[replace]}" = no ] && kubectl get jobset "${opt[name]}" "${space[@]}" >/dev/null 2>&1; then
    refuse "a JobSet ${opt[name]} is there: follow it (kubectl logs --follow" \
      "${opt[name]}-slice-0-0-... ${space[*]}), take another --name, or --replace it."
  fi
fi
run docker build --platform linux/amd64 --file "$ROOT/launch/gke/Dockerfile" --tag "$image" "$ROOT"
run docker push "$image"
[ "${opt[replace]}" = no ] ||
  run kubectl delete jobset "${opt[name]}" "${space[@]}" --ignore-not-found
if is_dry; then
  run kubectl apply --filename -
  manifest
else
  manifest | kubectl apply --filename -
  say "follow it: kubectl get pods ${space[*]} --selector jobset.sigs.k8s.io/jobset-name=${opt[name]}"
fi
