#!/bin/bash
# Makes the certificates of this folder again: an authority of its own, and what it signed.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }
key "$work/ca.key"
openssl req -x509 -new -key "$work/ca.key" -subj "/CN=sglang-rl tests" -days 36500 -out ca.pem
key server.key
# name, subject alternative names, first and last day
sign() {
  openssl req -new -key server.key -subj "/CN=$1" -out "$work/$1.csr"
  printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=%s\n' "$2" > "$work/$1.ext"
  mkdir -p "$work/$1"; : > "$work/$1/index.txt"; echo 01 > "$work/$1/serial"
  cat > "$work/$1/ca.cnf" <<EOF
[ca]
default_ca=own
[own]
database=$work/$1/index.txt
serial=$work/$1/serial
new_certs_dir=$work/$1
default_md=sha256
policy=any
[any]
commonName=supplied
EOF
  openssl ca -batch -config "$work/$1/ca.cnf" -cert ca.pem -keyfile "$work/ca.key" \
    -extfile "$work/$1.ext" -startdate "$3" -enddate "$4" -in "$work/$1.csr" -out "$work/$1.pem" 2>/dev/null
  openssl x509 -in "$work/$1.pem" -out "$1.pem"
}
sign server "DNS:localhost,IP:127.0.0.1" 20200101000000Z 21200101000000Z
sign expired "DNS:localhost,IP:127.0.0.1" 20200101000000Z 20210101000000Z
sign other "DNS:other.example" 20200101000000Z 21200101000000Z
rm -r "$work"
