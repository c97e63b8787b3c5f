# The issuer decides, by RFC 7662: it is asked about the token of each request. This policy reads no claim
package roles

token := trim_prefix(input.attributes.request.http.headers.authorization, "Bearer ")

answer := http.send({
	"method": "POST",
	"url": data.url,
	"headers": {
		"authorization": concat(" ", ["Basic", base64.encode(concat(":", [data.client, data.secret]))]),
		"content-type": "application/x-www-form-urlencoded",
	},
	"raw_body": concat("=", ["token", urlquery.encode(token)]),
	"tls_ca_cert": data.authority,
	"timeout": "4s",
	"raise_error": false, # without an answer nobody gets in
})

default allow := false

allow if answer.body.active == true

reason := "the issuer calls the token active" if {
	allow
} else := "the issuer calls the token inactive" if {
	answer.body.active == false
} else := sprintf("the issuer answered the introspection with status %d", [answer.status_code])

decision := {"allow": allow, "rule": "introspection", "reason": reason, "wants": []}
