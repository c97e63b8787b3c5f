# The matrix (data.rows), for a token that this policy verifies itself: signature, issuer, audience and times
package roles

request := input.attributes.request.http

path := split(request.path, "?")[0]

claims := payload if {
	[scheme, token] := split(request.headers.authorization, " ")
	scheme == "Bearer"
	[verified, _, payload] := io.jwt.decode_verify(token, {"cert": json.marshal(data.jwks), "iss": data.issuer, "aud": data.audience})
	verified
	payload.typ == "Bearer"
}

rows contains row if {
	some row in data.rows[request.method]
	covers(row.path)
}

covers(pattern) if pattern == path

covers(pattern) if {
	endswith(pattern, "*")
	startswith(path, trim_suffix(pattern, "*"))
}

default allow := false

allow if {
	some row in rows
	row.who == "anybody"
}

allow if {
	some row in rows
	row.who == "user"
	claims
}

allow if {
	some row in rows
	held := object.get(claims, row.claim, [])
	is_array(held) # `in` would also go through the values of an object
	some value in held
	value in row.values
}

wants := [{"key": row.key, "values": row.values} | some row in rows; row.who == "role"]

reason := "no row of the matrix has this path and method" if {
	count(rows) == 0
} else := "allowed" if {
	allow
} else := "the request has no token that the policy believes" if {
	not claims
} else := "the token has none of the roles"

rule := concat(", ", {sprintf("%s %s", [request.method, row.path]) | some row in rows})

decision := {"allow": allow, "rule": rule, "reason": reason, "wants": wants}
