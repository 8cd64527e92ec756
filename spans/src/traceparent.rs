//! `traceparent`, as W3C Trace Context writes it: <https://www.w3.org/TR/trace-context/#traceparent-header>

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The context that a `traceparent` names; `None` where it names none.
#[must_use]
pub fn context_of(traceparent: &str) -> Option<SpanContext> {
    let mut fields = traceparent.split('-').skip(1);
    let trace = TraceId::from_hex(fields.next()?).ok()?;
    let parent = SpanId::from_hex(fields.next()?).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(fields.next()?, 16).ok()?);
    let context = SpanContext::new(trace, parent, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

/// The `traceparent` that names a context; `None` where there is no span.
#[must_use]
pub fn traceparent_of(context: &SpanContext) -> Option<String> {
    let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags().to_u8());
    context.is_valid().then(|| format!("00-{trace}-{span}-{flags:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_keeps_its_ids_and_its_decision() {
        let context = context_of(VALUE).expect("a context");
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(context.is_sampled() && context.is_remote());
        assert_eq!(traceparent_of(&context).as_deref(), Some(VALUE));
    }

    #[test]
    fn what_names_no_span_is_no_context() {
        for text in ["", "anything", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", &VALUE[..40]]
        {
            assert_eq!(context_of(text), None, "{text}");
        }
        assert_eq!(traceparent_of(&SpanContext::empty_context()), None);
    }
}
