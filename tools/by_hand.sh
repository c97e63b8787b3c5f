#!/usr/bin/env bash
# The article's steps 02 to 11 by hand on a new cluster: kubectl and curl, with the files that tools/by_hand.py wrote.
# Usage: by_hand.sh FOLDER, with KUBECONFIG set, and kubectl on PATH. No secret is an argument of a program.
set -euo pipefail
umask 077
cd "$1"
. ./names # keycloak, gateway: the load balancers' addresses; keycloak_service, gateway_service: namespace/name
local=https://localhost:18443

apply() { kubectl apply --server-side --force-conflicts -f "$1" > /dev/null; }
rolled_out() { kubectl -n "$1" rollout status "deployment/$2" --timeout 180s > /dev/null; }
status() { curl -s -o /dev/null -w '%{http_code}' --max-time 5 --cacert ca.pem "$@" || true; }
create() { curl -sf -o /dev/null --cacert ca.pem -H @administrator -H 'Content-Type: application/json' "$@"; }
bearer() { # the header with an access token: of the form $1, at the realm's address $2
  curl -sf --cacert ca.pem --data "@$1" "$2/protocol/openid-connect/token" |
    sed 's/.*"access_token":"\([^"]*\)".*/Authorization: Bearer \1/'
}
expect() { # the answer $1 of a command, within 60 s
  local wanted=$1 got="" end=$((SECONDS + 60))
  shift
  until got=$("$@") && [ "$got" = "$wanted" ]; do
    [ "$SECONDS" -lt "$end" ] || { echo "expected $wanted from $*, got $got" >&2; exit 1; }
    sleep 0.2
  done
}
has_address() { # certificates and policies are for this address
  expect "$2" kubectl -n "${1%/*}" get service "${1#*/}" -o 'jsonpath={.status.loadBalancer.ingress[0].ip}'
}
from_sleep() { # $1: the file with the header of a token, or an empty one
  kubectl -n foo exec -i deployment/sleep -c curl -- \
    curl -s -o /dev/null -w '%{http_code}' -H @- http://httpbin.foo:8000/ip < "$1"
}

# 02 Istio
apply definitions.yaml
kubectl wait --for condition=established --timeout 60s -f definitions.yaml > /dev/null
apply istio.yaml
rolled_out istio-system istiod
has_address "$gateway_service" "$gateway"
# 03 Keycloak
apply keycloak.yaml
has_address "$keycloak_service" "$keycloak"
rolled_out keycloak keycloak
# 04 realm, client with its mapper, user: the administration has no public address
kubectl -n keycloak port-forward deployment/keycloak 18443:8443 > /dev/null &
trap 'kill %1' EXIT
expect 200 status "$local/realms/master"
bearer admin.form "$local/realms/master" > administrator
create -d @realm.json "$local/admin/realms"
create -d @client.json "$local/admin/realms/istio/clients"
create -d @user.json "$local/admin/realms/istio/users"
# 05, 06 namespace, httpbin and its callers
apply workloads.yaml
for name in httpbin sleep; do rolled_out foo "$name"; done
# 07 Gateway and route
apply route.yaml
expect 200 status "https://$gateway/headers"
# 08, 09 mutual TLS; Istio's sidecars send it without a DestinationRule
apply mutual-tls.yaml
# 10 end users
apply policies.yaml
# 11 testing: Figure 2 demands a token of everybody
bearer user.form "https://$keycloak/realms/istio" > token
expect 403 status "https://$gateway/headers"
expect 200 status -H @token "https://$gateway/headers"
expect 403 from_sleep /dev/null
expect 200 from_sleep token
