//! Values written as one of a closed list of words.

/// Declares an enum of words: `Display`, `FromStr`, serde both ways, its schema, and an error that lists what is
/// allowed. Words listed under `weak` are recognised only to be refused with a reason.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident as $noun:literal {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+
        }
        weak { $($weak:literal: $reason:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word that stands for it in the API.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let allowed = [$($word,)+].join(", ");
                match text {
                    $($word => Ok(Self::$variant),)+
                    $($weak => Err(format!(
                        "{text:?} is refused because {}; allowed: {allowed}", $reason
                    )),)*
                    _ => Err(format!("{text:?} is not {}; allowed: {allowed}", $noun)),
                }
            }
        }

        $crate::read::as_string!($name);

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .enum_values(Some([$($word,)+]))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

pub(crate) use words;
